package parser

import (
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// characteristics are the settings that SET SESSION CHARACTERISTICS AS TRANSACTION changes, by option.
var characteristics = map[string]string{
	"transaction_isolation":  "default_transaction_isolation",
	"transaction_read_only":  "default_transaction_read_only",
	"transaction_deferrable": "default_transaction_deferrable",
}

// pinOfSetting is the reason why a setting of this name cannot be carried to another connection, "" if it can.
func pinOfSetting(name string) string {
	switch name {
	case "session_authorization":
		return "SET SESSION AUTHORIZATION"
	case "seed":
		return "SET seed"
	}
	return ""
}

// endsWithTransaction says whether the setting of this name holds for one transaction however it is set.
func endsWithTransaction(name string) bool {
	_, ok := characteristics[name]
	return ok
}

// addLocal notes that the setting differs until the transaction ends.
func (c *Command) addLocal(name string) { c.Locals = appendNew(c.Locals, strings.ToLower(name)) }

// addRestore notes that the setting may become what it was at login. That of a transaction has no such value.
func (c *Command) addRestore(name string) {
	if !endsWithTransaction(name) {
		c.Restores = appendNew(c.Restores, strings.ToLower(name))
	}
}

// hidesSettings notes that the statement may change settings, or bring them back, that its text does not show.
func (c *Command) hidesSettings() { c.LocalsAny, c.RestoresAny = true, true }

// addSetting notes that the setting may differ after the transaction.
func (c *Command) addSetting(name string) {
	name = strings.ToLower(name)
	if pin := pinOfSetting(name); pin != "" {
		c.pin(pin)
		return
	}
	if endsWithTransaction(name) {
		c.addLocal(name)
		return
	}
	c.Settings = appendNew(c.Settings, name)
	c.Effects |= ChangesSettings
}

// variableSet reads SET and RESET in all forms.
func (c *Command) variableSet(s *pg.VariableSetStmt) {
	c.Kind = Set
	name := strings.ToLower(s.Name)
	switch s.Kind {
	case pg.VariableSetKind_VAR_RESET_ALL:
		c.Kind = ResetAll
		c.Effects |= ResetsAll
		c.RestoresAny = true
		return
	case pg.VariableSetKind_VAR_SET_MULTI:
		c.variableSetMulti(name, s)
		return
	case pg.VariableSetKind_VAR_RESET:
		c.Kind = Reset
		c.addRestore(name)
	case pg.VariableSetKind_VAR_SET_DEFAULT:
		c.addRestore(name)
		if !s.IsLocal {
			c.Kind = Reset // another spelling of it
		}
	}
	c.assign(name, s)
	if name == "search_path" && mentionsTemp(s.Args) {
		c.pin("SET search_path to pg_temp") // CREATE then makes temporary objects without a word of it
	}
	if s.IsLocal && name != "seed" { // the random generator does not roll back
		c.addLocal(name)
		return
	}
	c.addSetting(name)
}

// assign notes what a SET or RESET of one setting gives it, if it is one value.
func (c *Command) assign(name string, s *pg.VariableSetStmt) {
	a := Assignment{Name: name, Local: s.IsLocal, Default: s.Kind != pg.VariableSetKind_VAR_SET_VALUE}
	if !a.Default && len(s.Args) != 1 {
		return
	}
	if !a.Default {
		k := s.Args[0].GetAConst()
		if k == nil {
			return // SET TIME ZONE INTERVAL …
		}
		a.Value, _ = constantText(k)
	}
	c.Assigned = a
}

// variableSetMulti reads SET TRANSACTION and SET SESSION CHARACTERISTICS.
func (c *Command) variableSetMulti(name string, s *pg.VariableSetStmt) {
	if name != "session characteristics" {
		c.Kind = SetTransaction
		c.Transaction.read(s.Args)
		c.Transaction.Snapshot = name == "transaction snapshot"
		return
	}
	for _, arg := range s.Args {
		if setting, ok := characteristics[arg.GetDefElem().GetDefname()]; ok {
			c.addSetting(setting)
		}
	}
}

// mentionsTemp says whether one of a setting's values names the schema of temporary objects.
func mentionsTemp(args []*pg.Node) bool {
	for _, arg := range args {
		if s, ok := literal(arg); ok && strings.Contains(strings.ToLower(s), "pg_temp") {
			return true
		}
	}
	return false
}

// setConfig reads set_config(name, value, is_local).
func (c *Command) setConfig(args []*pg.Node) {
	if len(args) != 3 {
		c.pin(pinComputed) // the server refuses it, unless a user's own function has this name
		c.hidesSettings()
		return
	}
	var named [3]*pg.Node
	for i, arg := range args {
		if na := arg.GetNamedArgExpr(); na != nil {
			switch na.Name {
			case "setting_name":
				i = 0
			case "new_value":
				i = 1
			case "is_local":
				i = 2
			}
			arg = na.Arg
		}
		named[i] = arg
	}
	c.Configured = append(c.Configured, configuration(named))
	name, known := literal(named[0])
	local := isTrue(named[2])
	name = strings.ToLower(name)
	if _, constant := literal(named[1]); !constant { // NULL brings the setting back
		if known {
			c.addRestore(name)
		} else {
			c.RestoresAny = true
		}
	}
	if local && known && name != "seed" { // the random generator does not roll back
		c.addLocal(name)
	}
	switch {
	case known && name == "seed":
		c.pin(pinOfSetting(name))
	case known && name == "search_path" && mentionsTemp(named[1:2]):
		c.pin("set_config() of search_path to pg_temp")
	case local:
		c.LocalsAny = c.LocalsAny || !known // ends with the transaction, whatever the name
	case known:
		c.addSetting(name)
	default:
		c.pin(pinComputed)
		c.LocalsAny = true
	}
}

// configuration is what the arguments of a set_config show.
func configuration(args [3]*pg.Node) (c Configuration) {
	if name, ok := literal(args[0]); ok {
		c.Name = strings.ToLower(name)
	}
	c.NameParam = parameter(args[0])
	c.Value, c.Default, c.Computed = plainText(args[1])
	if c.ValueParam = parameter(args[1]); c.ValueParam > 0 {
		c.Computed = false
	}
	c.Local = isTrue(args[2])
	c.LocalComputed = !c.Local && !isFalse(args[2])
	return c
}

// parameter is the number of the parameter that n is, through casts; 0 if it is none.
func parameter(n *pg.Node) int {
	for n.GetTypeCast() != nil {
		n = n.GetTypeCast().Arg
	}
	return int(n.GetParamRef().GetNumber())
}

// plainText is the text that a constant has once the server has read it: a cast to a type with a length may cut it.
func plainText(n *pg.Node) (text string, null, computed bool) {
	for n.GetTypeCast() != nil {
		if len(n.GetTypeCast().TypeName.GetTypmods()) > 0 {
			return "", false, true
		}
		n = n.GetTypeCast().Arg
	}
	k := n.GetAConst()
	if k == nil {
		return "", false, true
	}
	if s, ok := k.Val.(*pg.A_Const_Sval); ok {
		return s.Sval.GetSval(), false, false
	}
	_, null = constantText(k)
	return "", null, !null // a number: the server has no such function
}

// literal is the text of a constant, through casts.
func literal(n *pg.Node) (string, bool) {
	for n.GetTypeCast() != nil {
		n = n.GetTypeCast().Arg
	}
	k := n.GetAConst()
	if k == nil {
		return "", false
	}
	switch v := k.Val.(type) {
	case *pg.A_Const_Sval:
		return v.Sval.GetSval(), true
	case *pg.A_Const_Boolval:
		if v.Boolval.GetBoolval() {
			return "true", true
		}
		return "false", true
	}
	return "", false
}

// constantText is a constant as text: a string without its quotes, a number with its sign, bits with b or x before them.
func constantText(k *pg.A_Const) (text string, null bool) {
	switch v := k.Val.(type) {
	case *pg.A_Const_Sval:
		return v.Sval.GetSval(), false
	case *pg.A_Const_Ival:
		return strconv.Itoa(int(v.Ival.GetIval())), false
	case *pg.A_Const_Fval:
		return v.Fval.GetFval(), false
	case *pg.A_Const_Bsval:
		return v.Bsval.GetBsval(), false
	case *pg.A_Const_Boolval:
		return strconv.FormatBool(v.Boolval.GetBoolval()), false
	}
	return "", true
}

// isTrue says whether n is certainly the constant true.
func isTrue(n *pg.Node) bool {
	s, ok := literal(n)
	switch strings.ToLower(s) {
	case "t", "tr", "tru", "true", "y", "ye", "yes", "on", "1":
		return ok
	}
	return false
}

// isFalse says whether n is certainly the constant false.
func isFalse(n *pg.Node) bool {
	s, ok := literal(n)
	switch strings.ToLower(s) {
	case "f", "fa", "fal", "fals", "false", "n", "no", "off", "of", "0":
		return ok
	}
	return false
}
