package auth

import (
	"context"
	"maps"
	"slices"
)

// User is a name and what its password is checked with.
type User struct {
	Name   string
	Secret Secret
}

// Users finds users by name. It is immutable and may be used by any number of
// goroutines.
type Users struct {
	byName map[string]User
}

// NewUsers gathers lists of users; where a name stands in several lists the
// first list counts, and within a list the last entry. mock gives plaintext
// secrets the salt of their verifiers; iterations is the verifiers' work factor.
func NewUsers(mock *Mock, iterations int, lists ...[]User) *Users {
	all := map[string]User{}
	for _, list := range lists {
		own := map[string]User{}
		for _, user := range list {
			own[user.Name] = user
		}
		for name, user := range own {
			if _, taken := all[name]; !taken {
				user.Secret = user.Secret.withSalt(mock.salt(name), iterations)
				all[name] = user
			}
		}
	}
	return &Users{byName: all}
}

// Lookup returns the user called name, and false if there is none.
func (u *Users) Lookup(name string) (User, bool) {
	user, ok := u.byName[name]
	return user, ok
}

// Names are the names of all users, in order.
func (u *Users) Names() []string { return slices.Sorted(maps.Keys(u.byName)) }

// Len is the number of users.
func (u *Users) Len() int { return len(u.byName) }

// Prepare derives the SCRAM verifiers of all plaintext secrets, about a
// millisecond each, so that no client waits for its own and none can tell from
// its first login that the user exists. It returns early when ctx ends; what is
// missing then is derived when first needed.
func (u *Users) Prepare(ctx context.Context) {
	for _, user := range u.byName {
		if ctx.Err() != nil {
			return
		}
		user.Secret.scramVerifier()
	}
}

// SecretFromQueryRow reads the password column of auth_query's row. NULL and
// the empty text are the zero Secret, with which every password login fails as
// it does for an unknown user. Errors hold no part of the text.
func SecretFromQueryRow(shadow *string) (Secret, error) {
	if shadow == nil {
		return Secret{}, nil
	}
	return ParseSecret(*shadow)
}
