package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"pgtier/resharder"
)

const (
	// lookEvery is how often a command that waits looks at the job.
	lookEvery = 250 * time.Millisecond
	// sayEvery is how often plain output says how far the job is, when nothing else has changed.
	sayEvery = 10 * time.Second
	// lonely is how long nobody may carry the job on before the command does.
	lonely = 3 * time.Second
	// patient is how long the control database may be away.
	patient = time.Minute
)

// watch shows how the job goes on until it is as it should be, and says so, or has stopped. While no serving process carries it on, this one does.
func (r *reshardRun) watch(ctx context.Context, done func(*resharder.Status) bool, say func(*resharder.Status)) error {
	ctx, stop := context.WithCancel(ctx)
	var carrying sync.WaitGroup
	defer carrying.Wait()
	defer stop()
	show := newReshardShow(r.out)
	defer show.end()
	alone, heard := time.Now(), time.Now()
	carries := false
	for {
		s, err := r.control.Status(ctx)
		switch {
		case err != nil && (ctx.Err() != nil || time.Since(heard) > patient || errors.Is(err, resharder.ErrNoJob)):
			return err
		case err != nil:
		case done(s):
			show.end()
			say(s)
			return nil
		case !s.UnderWay():
			show.end()
			return fmt.Errorf("the job is %s", s.Step)
		case s.Error != "":
			show.end()
			return fmt.Errorf("the job has stopped at step %s: %s", s.Step, s.Error)
		default:
			heard = time.Now()
			if s.Carried {
				alone = heard
			} else if !carries && time.Since(alone) > lonely {
				carries = true
				show.line("no pgtier serve carries the job on; this command does until it ends")
				carrying.Go(func() { resharder.Run(ctx, r.config) }) // ends with ctx
			}
			show.status(s)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; the job itself goes on, pgtier reshard status says how far it is", ctx.Err())
		case <-time.After(lookEvery):
		}
	}
}

// reshardShow shows how far a job is: a bar on a terminal, lines elsewhere.
type reshardShow struct {
	out     io.Writer
	bar     *progressbar.ProgressBar // nil: lines
	columns int                      // of the terminal

	// What the last line said: where the job was, and all of it; and when.
	last, text string
	said       time.Time
}

func newReshardShow(out io.Writer) *reshardShow {
	show := &reshardShow{out: out}
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		show.bar = progressbar.NewOptions64(1000, progressbar.OptionSetWriter(out), progressbar.OptionSetWidth(barWidth), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false))
		show.columns = 80
		if columns, _, err := term.GetSize(int(file.Fd())); err == nil && columns > 0 {
			show.columns = columns
		}
	}
	return show
}

// line says something of its own.
func (s *reshardShow) line(text string) {
	if s.bar != nil {
		_ = s.bar.Clear() // a bar that cannot be drawn is no reason to end
	}
	fmt.Fprintln(s.out, text)
}

// status shows where the job is. A line says something new: at once what is done now, and from time to time how far.
func (s *reshardShow) status(job *resharder.Status) {
	what, part := describe(job)
	text := what
	if detail := howFar(job); detail != "" {
		text += " (" + detail + ")"
	}
	if s.bar != nil {
		s.bar.Describe(shortened(text, s.columns-barWidth-barRest))
		_ = s.bar.Set64(part) // as above
		return
	}
	if text == s.text || what == s.last && time.Since(s.said) < sayEvery {
		return
	}
	s.last, s.text, s.said = what, text, time.Now()
	fmt.Fprintln(s.out, text)
}

// The bar's width on a terminal, and what stands around it, the percentage among it.
const (
	barWidth = 20
	barRest  = 12
)

// shortened is a text of so many letters at most: a line that is broken could not be renewed in place.
func shortened(text string, most int) string {
	letters := []rune(text)
	if most < 1 || len(letters) <= most {
		return text
	}
	return string(letters[:most-1]) + "…"
}

// end takes the bar away.
func (s *reshardShow) end() {
	if s.bar != nil {
		_ = s.bar.Finish() // as above
		s.bar = nil
	}
}

// describe says in a few words where the job is, and how far in thousandths.
func describe(job *resharder.Status) (what string, part int64) {
	p := &job.Progress
	what = string(job.Step)
	if p.Doing != "" {
		what += ": " + p.Doing
	}
	for _, m := range p.Moves {
		if m.Throttled != "" {
			what += ", throttled: " + m.Throttled
			break
		}
	}
	if p.Trouble != "" {
		what += "; tries again after: " + p.Trouble
	}
	var have, want int64
	switch job.Step {
	case resharder.StepCopy:
		for _, m := range p.Moves {
			have, want = have+m.Bytes, want+m.ExpectedBytes
		}
	case resharder.StepFollow:
		if have, want = int64(p.GroupsDone), int64(p.Groups); job.Wish == resharder.WishRollback {
			have = want - have
		}
	case resharder.StepFinish, resharder.StepDone:
		have, want = 1, 1
	}
	if want > 0 {
		part = min(999, 1000*have/want)
	}
	return what, part
}

// howFar says it in numbers: of the copy rows, bytes, rate and time left, later groups and lag; "" where there is nothing to count.
func howFar(job *resharder.Status) string {
	var sum resharder.MoveProgress
	for _, m := range job.Progress.Moves {
		sum.Rows, sum.ExpectedRows, sum.Bytes, sum.ExpectedBytes = sum.Rows+m.Rows, sum.ExpectedRows+m.ExpectedRows, sum.Bytes+m.Bytes, sum.ExpectedBytes+m.ExpectedBytes
		sum.Rate, sum.ETA = sum.Rate+m.Rate, max(sum.ETA, m.ETA)
		sum.Lag, sum.Deleted = sum.Lag+m.Lag+m.ReverseLag, sum.Deleted+m.Deleted
	}
	switch job.Step {
	case resharder.StepCopy:
		if sum.ExpectedBytes == 0 {
			return ""
		}
		text := fmt.Sprintf("%d", sum.Rows)
		if sum.ExpectedRows > 0 {
			text += fmt.Sprintf(" of about %d", sum.ExpectedRows)
		}
		text += fmt.Sprintf(" rows, %s of about %s", bytesText(sum.Bytes), bytesText(sum.ExpectedBytes))
		if sum.ETA > 0 {
			text += fmt.Sprintf(", %s a second, %s left", bytesText(sum.Rate), sum.ETA)
		}
		return text
	case resharder.StepIndex, resharder.StepJoin:
		return "lag " + bytesText(sum.Lag)
	case resharder.StepFollow:
		return fmt.Sprintf("%d of %d groups, lag %s", job.Progress.GroupsDone, job.Progress.Groups, bytesText(sum.Lag))
	case resharder.StepFinish, resharder.StepCancel:
		if sum.Deleted > 0 {
			return fmt.Sprintf("%d rows deleted", sum.Deleted)
		}
	}
	return ""
}
