package web

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/clonegate/clonegate/examples/shop"
)

// A visitor is somebody who has signed in.
type visitor struct {
	Name  string `json:"name"`
	Email string `json:"email"`
}

const cookieName = "shop_session"

// sessions keeps visitors in cookies that it signs. Its key lives as long as
// the process: a restart signs everybody out.
type sessions struct{ key []byte }

func newSessions() sessions {
	key := make([]byte, 32)
	rand.Read(key) // never fails
	return sessions{key}
}

func (s sessions) sign(payload string) string {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(payload))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// visitor returns who sent a request, nil if nobody is signed in.
func (s sessions) visitor(r *http.Request) *visitor {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return nil
	}
	payload, signature, _ := strings.Cut(cookie.Value, ".")
	if !hmac.Equal([]byte(signature), []byte(s.sign(payload))) {
		return nil
	}
	text, err := base64.RawURLEncoding.DecodeString(payload)
	v := new(visitor)
	if err != nil || json.Unmarshal(text, v) != nil {
		return nil
	}
	return v
}

// cookie returns the cookie that keeps v signed in for a month; for nil, the
// one that signs out.
func (s sessions) cookie(v *visitor) *http.Cookie {
	c := &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode}
	if v != nil {
		text, _ := json.Marshal(v) // two strings always marshal
		payload := base64.RawURLEncoding.EncodeToString(text)
		c.Value, c.MaxAge = payload+"."+s.sign(payload), 30*24*3600
	}
	return c
}

type loginData struct{ Email, Problem string }

func (f *Front) login(w http.ResponseWriter, r *http.Request) {
	f.show(w, r, http.StatusOK, "login", "Sign in", loginData{})
}

// signIn takes the e-mail address of a customer. Nobody is asked for a
// password: the customers are made up.
func (f *Front) signIn(w http.ResponseWriter, r *http.Request) {
	limitForm(w, r)
	email := r.FormValue("email")
	c, err := f.API.Customer(r.Context(), email)
	switch {
	case errors.Is(err, shop.ErrNotFound):
		f.show(w, r, http.StatusUnprocessableEntity, "login", "Sign in", loginData{email, "Nobody has ordered with this address yet."})
	case err != nil:
		f.fail(w, r, err)
	default:
		http.SetCookie(w, f.sessions.cookie(&visitor{c.Name, c.Email}))
		http.Redirect(w, r, f.WWW+"/", http.StatusSeeOther)
	}
}

func (f *Front) signOut(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, f.sessions.cookie(nil))
	http.Redirect(w, r, f.WWW+"/", http.StatusSeeOther)
}
