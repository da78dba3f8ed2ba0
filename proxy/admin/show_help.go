package admin

import (
	"strings"

	"pgtier/proxy/wire"
)

// showHelp lists the commands in a notice, as PgBouncer does.
func showHelp(k *call) error {
	var lines []string
	var show []string
	for i := range k.table {
		c := &k.table[i]
		name, isShow := strings.CutPrefix(c.name, "SHOW ")
		switch {
		case c.hidden:
		case isShow:
			show = append(show, name)
		case c.usage != "":
			lines = append(lines, c.name+" "+c.usage)
		default:
			lines = append(lines, c.name)
		}
	}
	text := ""
	for len(show) > 0 {
		n := min(6, len(show))
		text += "\n\tSHOW " + strings.Join(show[:n], "|")
		show = show[n:]
	}
	text += "\n\t" + strings.Join(lines, "\n\t")
	k.notices = append(k.notices, wire.Error{Severity: "NOTICE", Code: "00000", Message: "Console usage", Detail: text})
	return nil
}
