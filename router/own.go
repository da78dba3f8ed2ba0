package router

import (
	"fmt"
	"strings"

	"pgtier/parser"
	"pgtier/router/balance"
)

// The proxy's own settings.
const (
	OwnPrefix          = "pgtier."
	SettingConsistency = "pgtier.consistency"
	SettingCache       = "pgtier.cache"
	SettingLSN         = "pgtier.lsn"
	SettingLastRoute   = "pgtier.last_route"
	SettingShard       = "pgtier.shard"
	SettingShardingKey = "pgtier.sharding_key"
)

// Refusal is why a statement is answered with an error instead of being sent to a server.
type Refusal struct {
	Code, Message, Hint string // Hint may be ""
}

// SQLSTATEs of refusals.
const (
	invalidValue = "22023" // invalid_parameter_value
	notSupported = "0A000" // feature_not_supported
)

// CheckOwn refuses names and values of the proxy's own settings that mean nothing, in SHOW, SET and set_config. nil: what st
// shows is right. Values that are parameters or computed are not shown, see CheckConfiguration and CheckValue.
func CheckOwn(st *parser.Statement) *Refusal {
	for i := range st.Commands {
		if r := checkCommand(&st.Commands[i]); r != nil {
			return r
		}
	}
	return nil
}

func checkCommand(c *parser.Command) *Refusal {
	if c.Kind == parser.Show && strings.HasPrefix(c.Name, OwnPrefix) {
		switch c.Name {
		case SettingConsistency, SettingCache, SettingLSN, SettingLastRoute, SettingShard, SettingShardingKey:
		default:
			return unknownOwn(c.Name)
		}
	}
	if strings.HasPrefix(c.Assigned.Name, OwnPrefix) {
		if r := CheckAssignment(&c.Assigned); r != nil {
			return r
		}
	}
	for i := range c.Configured {
		if r := CheckConfiguration(&c.Configured[i]); r != nil {
			return r
		}
	}
	if c.Prepared != nil {
		return checkCommand(c.Prepared)
	}
	if c.Explained != nil {
		return checkCommand(c.Explained)
	}
	return nil
}

// CheckConfiguration is CheckOwn for one set_config, as far as its name and value are known.
func CheckConfiguration(c *parser.Configuration) *Refusal {
	switch {
	case !strings.HasPrefix(c.Name, OwnPrefix):
		return nil
	case c.LocalComputed:
		return notLocal(c.Name, "Give is_local as the constant false.")
	case c.Computed || c.ValueParam > 0:
		known := c.Assignment
		known.Default = true // whatever it will be
		return CheckAssignment(&known)
	}
	return CheckAssignment(&c.Assignment)
}

// CheckAssignment is CheckOwn for what gives one of the proxy's own settings a value.
func CheckAssignment(a *parser.Assignment) *Refusal {
	switch a.Name {
	case SettingConsistency, SettingCache, SettingLSN, SettingShard, SettingShardingKey:
	case SettingLastRoute:
		return &Refusal{Code: invalidValue, Message: fmt.Sprintf("setting %q can only be shown", a.Name)}
	default:
		return unknownOwn(a.Name)
	}
	switch {
	case a.Local:
		return notLocal(a.Name, "Its server is chosen when it begins: SET it before BEGIN, or begin a statement with /* pgtier: … */.")
	case a.Default:
		return nil
	}
	return CheckValue(a.Name, a.Value)
}

// CheckValue refuses a value that the proxy's own setting of that name cannot have.
func CheckValue(name, value string) *Refusal {
	hint := ""
	switch name {
	case SettingConsistency:
		if _, err := ParseLevel(value); err != nil {
			hint = "Use session, strong, eventual or manager."
		}
	case SettingCache:
		if value != "on" && value != "off" {
			hint = "Use on or off."
		}
	case SettingLSN:
		if _, err := balance.ParseLSN(value); err != nil {
			hint = "Use a position as SHOW pgtier.lsn gives it, such as 0/16B3748."
		}
	}
	if hint == "" {
		return nil
	}
	return &Refusal{Code: invalidValue, Message: fmt.Sprintf("invalid value for setting %q: %q", name, value), Hint: hint}
}

func unknownOwn(name string) *Refusal {
	return &Refusal{Code: invalidValue, Message: fmt.Sprintf("unknown setting %q", name),
		Hint: "The proxy's settings are pgtier.consistency, pgtier.cache, pgtier.shard, pgtier.sharding_key, pgtier.lsn and, to SHOW, pgtier.last_route."}
}

func notLocal(name, hint string) *Refusal {
	return &Refusal{Code: notSupported, Message: fmt.Sprintf("setting %q cannot be set for one transaction", name), Hint: hint}
}
