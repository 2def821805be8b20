package api

import (
	"context"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// A Token is what is known of a token, without its secret.
type Token struct {
	ID       string        `json:"id"`
	Name     string        `json:"name"`
	Role     registry.Role `json:"role"`
	IDs      []string      `json:"ids,omitempty" doc:"What a clone token may register, as in 1234 or 1000-1999."`
	Takeover bool          `json:"takeover,omitempty"`
	Created  time.Time     `json:"created,omitzero"`
	Expires  time.Time     `json:"expires,omitzero" doc:"Absent if never."`
	LastUsed time.Time     `json:"last_used,omitzero"`
}

func (a *API) showToken(t *registry.Token) *Token {
	shown := &Token{
		ID: t.ID, Name: t.Name, Role: t.Role, Takeover: t.Takeover,
		Created: t.Created, Expires: t.Expires, LastUsed: a.registry.LastUsed(t),
	}
	for _, r := range t.IDs {
		shown.IDs = append(shown.IDs, r.String())
	}
	return shown
}

// A NewToken is a token with its secret, which nobody can show again.
type NewToken struct {
	Token
	Secret string `json:"secret" doc:"What authenticates: Authorization: Bearer cgt_…"`
}

type createTokenInput struct {
	Body registry.TokenRequest
}

type newTokenOutput struct {
	Body NewToken
}

func (a *API) createToken(ctx context.Context, in *createTokenInput) (*newTokenOutput, error) {
	t, secret, err := a.registry.CreateToken(ctx, Actor(ctx), in.Body)
	if err != nil {
		return nil, err
	}
	return &newTokenOutput{Body: NewToken{Token: *a.showToken(t), Secret: secret}}, nil
}

// A TokenList is one page of tokens.
type TokenList struct {
	Tokens []*Token `json:"tokens" nullable:"false"`
	Next   string   `json:"next,omitempty" doc:"Cursor of the next page; absent on the last."`
}

type listTokensInput struct {
	Page
}

type tokenListOutput struct {
	Body TokenList
}

// listTokens goes on behind the token the cursor names. A token that was
// revoked meanwhile ends the list, which then is read anew.
func (a *API) listTokens(_ context.Context, in *listTokensInput) (*tokenListOutput, error) {
	out := &tokenListOutput{Body: TokenList{Tokens: []*Token{}}}
	begun := in.Cursor == ""
	for _, t := range a.view.Tokens() {
		if !begun {
			begun = t.ID == in.Cursor
			continue
		}
		if len(out.Body.Tokens) == in.Limit {
			out.Body.Next = out.Body.Tokens[in.Limit-1].ID
			break
		}
		out.Body.Tokens = append(out.Body.Tokens, a.showToken(t))
	}
	return out, nil
}

type revokeTokenInput struct {
	ID string `path:"id" doc:"The token's ID: what stands between cgt_ and the next underscore."`
}

func (a *API) revokeToken(ctx context.Context, in *revokeTokenInput) (*struct{}, error) {
	return nil, a.registry.RevokeToken(ctx, Actor(ctx), in.ID)
}

// Who is who makes a request, and from where.
type Who struct {
	Token
	From string `json:"from" doc:"The address the request came from."`
}

type whoOutput struct {
	Body Who
}

func (a *API) whoami(ctx context.Context, _ *struct{}) (*whoOutput, error) {
	by := Actor(ctx)
	return &whoOutput{Body: Who{Token: *a.showToken(by.Token), From: by.From}}, nil
}
