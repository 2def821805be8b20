package registry

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A TokenRequest asks for a new token.
type TokenRequest struct {
	Name     string   `json:"name" doc:"For people and the audit log; an engineer's clones belong to this name."`
	Role     Role     `json:"role" enum:"viewer,clone,engineer,publisher,admin"`
	IDs      []string `json:"ids,omitempty" doc:"For role clone: the IDs it may register, as in 1234 or 1000-1999."`
	Takeover bool     `json:"takeover,omitempty" doc:"For role clone: whether it may take over a living registration."`
	TTL      Seconds  `json:"ttl,omitempty" doc:"Seconds until it expires; 0 for never."`
}

// maxTokens bounds how many tokens are kept.
const maxTokens = 20_000

// CreateToken makes a token. The secret is returned this once and not kept.
func (r *Registry) CreateToken(ctx context.Context, by Actor, req TokenRequest) (*Token, string, error) {
	if err := by.need(RoleAdmin); err != nil {
		return nil, "", err
	}
	token, err := readTokenRequest(&req)
	if err != nil {
		return nil, "", err
	}
	var secret string
	token.ID, secret, token.Hash = newSecret()
	err = r.write(ctx, func(t *tx) error {
		if len(r.view.Tokens()) >= maxTokens {
			return &FieldError{Field: "name", Rule: "tokens", Detail: fmt.Sprintf("%d tokens are kept already, which is the most; revoke some", maxTokens)}
		}
		token.Created = t.now
		if req.TTL > 0 {
			token.Expires = t.now.Add(req.TTL.Duration())
		}
		e := &Event{Type: EventTokenCreated, Token: token.ID, Message: fmt.Sprintf("%s, role %s", token.Name, token.Role)}
		rev := t.next(e, by)
		t.tokens[token.ID] = token
		t.changes = append(t.changes, Change{Revision: rev, Event: e, Token: token})
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return token, secret, nil
}

func readTokenRequest(req *TokenRequest) (*Token, error) {
	in := &reader{}
	token := &Token{Name: in.text("name", req.Name), Role: req.Role, Takeover: req.Takeover}
	if req.Name == "" {
		in.faults.add("name", "name", "is empty; say who will use the token")
	}
	if !slices.Contains(Roles, req.Role) {
		in.faults.add("role", "role", "%q is not a role; want one of %v", clip(string(req.Role)), Roles)
	}
	if (len(req.IDs) > 0 || req.Takeover) && req.Role != RoleClone {
		in.faults.add("ids", "ids", "ids and takeover are for role clone; role %s has none", req.Role)
	}
	if req.Role == RoleClone && len(req.IDs) == 0 {
		in.faults.add("ids", "ids", "a clone token names the IDs it may register, as in 1234 or 1000-1999")
	}
	if len(req.IDs) > maxLabels {
		in.faults.add("ids", "ids", "%d ranges; at most %d", len(req.IDs), maxLabels)
		return nil, in.faults
	}
	for i, s := range req.IDs {
		rng, err := ParseIDRange(s)
		if err != nil {
			in.faults.add(fmt.Sprintf("ids[%d]", i), "ids", "%v", err)
		}
		token.IDs = append(token.IDs, rng)
	}
	return token, in.faults.err()
}

// RevokeToken ends a token at once.
func (r *Registry) RevokeToken(ctx context.Context, by Actor, id string) error {
	if err := by.need(RoleAdmin); err != nil {
		return err
	}
	return r.write(ctx, func(t *tx) error {
		token := t.token(id)
		if token == nil {
			return fmt.Errorf("token %s: %w", clip(id), ErrNotFound)
		}
		t.removeToken(token, by, token.Name)
		return nil
	})
}

func (t *tx) token(id string) *Token {
	if token, ok := t.tokens[id]; ok {
		return token
	}
	token, _ := t.r.view.Token(id)
	return token
}

func (t *tx) removeToken(token *Token, by Actor, message string) {
	e := &Event{Type: EventTokenRevoked, Token: token.ID, Message: message}
	rev := t.next(e, by)
	t.tokens[token.ID] = nil
	t.changes = append(t.changes, Change{Revision: rev, Event: e, NoToken: token.ID})
}

// dropExpiredTokens removes tokens a day after their end, so that they do not
// add up.
func (r *Registry) dropExpiredTokens(ctx context.Context) error {
	limit := time.Now().Add(-24 * time.Hour)
	expired := slices.DeleteFunc(r.view.Tokens(), func(t *Token) bool { return !t.Expired(limit) })
	if len(expired) == 0 {
		return nil
	}
	return r.write(ctx, func(t *tx) error {
		for _, token := range expired {
			if t.token(token.ID) != nil {
				t.removeToken(token, System, token.Name+", expired")
			}
		}
		return nil
	})
}

// Authenticate returns the token that secret belongs to. The error is
// ErrNoToken, and says no more to whoever asks than that.
func (r *Registry) Authenticate(secret string) (*Token, error) {
	token, ok := r.view.Token(tokenID(secret))
	if !ok || !token.matches(secret) {
		return nil, fmt.Errorf("%w: it is not known here", ErrNoToken)
	}
	now := time.Now()
	if token.Expired(now) {
		return nil, fmt.Errorf("%w: token %s expired at %s", ErrNoToken, token.ID, token.Expires.UTC().Format(time.RFC3339))
	}
	r.tokens.use(token.ID, now)
	return token, nil
}

// LastUsed returns when a token was last used, zero if never.
func (r *Registry) LastUsed(t *Token) time.Time { return r.tokens.lastUsed(t) }

// tokenUse remembers when tokens were used until it is written.
type tokenUse struct {
	mu    sync.Mutex
	last  map[string]time.Time // guarded by mu; bounded by the number of tokens
	dirty map[string]time.Time // guarded by mu
}

func newTokenUse() *tokenUse {
	return &tokenUse{last: map[string]time.Time{}, dirty: map[string]time.Time{}}
}

func (u *tokenUse) use(id string, at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.last[id], u.dirty[id] = at, at
}

func (u *tokenUse) forget(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.last, id)
	delete(u.dirty, id)
}

func (u *tokenUse) lastUsed(t *Token) time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	if at, ok := u.last[t.ID]; ok {
		return at
	}
	return t.LastUsed
}

func (u *tokenUse) take() map[string]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	d := u.dirty
	u.dirty = map[string]time.Time{}
	return d
}

// putBack returns uses that could not be written, unless newer ones came.
func (u *tokenUse) putBack(d map[string]time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, at := range d {
		if _, newer := u.dirty[id]; !newer {
			u.dirty[id] = at
		}
	}
}
