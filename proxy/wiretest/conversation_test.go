package wiretest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// conversation is one file of testdata. Its lines:
//
//	# comment
//	setup "SQL"              before anything else, straight on the server
//	needs 2                  fewer server connections would make it wait for itself
//	shared                   not in session mode, where what follows a RESET of a login's setting in one text is refused
//	conn NAME [key=value …]  log in, or speak through NAME from here on
//	dial NAME                connect and say nothing yet
//	> Message …              send; lines that follow each other go out in one write
//	read TYPE [n]            read to the n-th message of that type ("close": to the end)
//	read end                 read to the end; a last word about why is not compared, PostgreSQL often says none
//	read Z+A [n]             read a ReadyForQuery and n notifications, in any order
//	read byte                read the one byte that answers an SSLRequest
//	loosely                  the next read compares errors by severity and SQLSTATE
//	await "SQL"              straight on the server, until it says t
//	cancel NAME              send a cancel request with NAME's key
//	hangup                   close the socket without a goodbye
//	< …                      what a server answered; not read but written by -update
type conversation struct {
	path   string
	needs  int
	shared bool // not for session mode
	setup  []string
	steps  []step
	source []string
}

// step is one line that does something.
type step struct {
	line  int // in source, from 0
	verb  string
	args  []word
	send  []byte
	wants []string // for read: the golden answer
}

func loadConversations() ([]*conversation, error) {
	paths, err := filepath.Glob(filepath.Join("testdata", "*.conv"))
	if err != nil {
		return nil, err
	}
	var all []*conversation
	for _, path := range paths {
		c, err := loadConversation(path)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

func loadConversation(path string) (*conversation, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c := &conversation{path: path, needs: 1, source: strings.Split(strings.TrimRight(string(text), "\n"), "\n")}
	for i, line := range c.source {
		if err := c.add(i, line); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, i+1, err)
		}
	}
	return c, nil
}

func (c *conversation) add(i int, line string) error {
	last := func() *step {
		if len(c.steps) == 0 {
			return &step{}
		}
		return &c.steps[len(c.steps)-1]
	}
	switch {
	case line == "" || line[0] == '#':
		return nil
	case strings.HasPrefix(line, "< "):
		last().wants = append(last().wants, line[2:])
		return nil
	case strings.HasPrefix(line, "> "):
		frame, err := encode(line[2:])
		if err != nil {
			return err
		}
		if last().verb != "send" {
			c.steps = append(c.steps, step{line: i, verb: "send"})
		}
		last().send = append(last().send, frame...)
		return nil
	}
	words, err := splitWords(line)
	if err != nil {
		return err
	}
	verb, args := words[0].text, words[1:]
	switch verb {
	case "shared":
		c.shared = true
	case "setup":
		c.setup = append(c.setup, args[0].text)
	case "needs":
		c.needs, err = strconv.Atoi(args[0].text)
	case "conn", "dial", "read", "await", "cancel":
		if len(args) == 0 {
			return fmt.Errorf("%s needs an argument", verb)
		}
		c.steps = append(c.steps, step{line: i, verb: verb, args: args})
	case "loosely", "hangup":
		c.steps = append(c.steps, step{line: i, verb: verb, args: args})
	default:
		return fmt.Errorf("unknown word %q", verb)
	}
	return err
}

// transcript is what was read: the frames of each step, by the step's index.
type transcript map[int][][]byte

// golden is what the file shows of an answer. What a server reports at login
// depends on its version and is left out.
func (s *step) golden(frames [][]byte) []string {
	var out []string
	for _, f := range frames {
		if s.verb != "conn" || f[0] != 'S' {
			out = append(out, render(f))
		}
	}
	return out
}

// rewrite puts the answers of t into the file.
func (c *conversation) rewrite(t transcript) error {
	answers := map[int][]string{}
	for i, frames := range t {
		for _, line := range c.steps[i].golden(frames) {
			answers[c.steps[i].line] = append(answers[c.steps[i].line], "< "+line)
		}
	}
	var out []string
	for i, line := range c.source {
		if strings.HasPrefix(line, "< ") {
			continue
		}
		out = append(append(out, line), answers[i]...)
	}
	return os.WriteFile(c.path, []byte(strings.Join(out, "\n")+"\n"), 0o644)
}

// stepLimit bounds one step; the machine may be busy with other packages' tests.
const stepLimit = 30 * time.Second
