package lifecycle_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fact is one thing that a client has learned of a VM between asking and the
// answer: that it was, at some moment between the two, in one of these states.
// A fact that is a deed also says what became of the VM by it.
type fact struct {
	who      string // client and verb
	begun    time.Time
	ended    time.Time
	saw      []string // "" in it is no VM; nothing is learned from an empty list
	passes   []string // through which the VM may go while the deed is done
	leaves   []string // one of which it has left when the deed is over; empty: not a deed
	doubtful bool     // the deed may have been undone, so that it proves no state on its own
}

func (f fact) String() string {
	return fmt.Sprintf("%s saw %q, leaves %q", f.who, f.saw, f.leaves)
}

// history is the facts of every VM, by name.
type history struct {
	mu    sync.Mutex
	facts map[string][]fact
}

func (h *history) add(name string, f fact) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.facts == nil {
		h.facts = map[string][]fact{}
	}
	h.facts[name] = append(h.facts[name], f)
}

// impossible are the facts that no order of the deeds explains. A deed is
// forgotten once another began after it and ended before the one who looks
// began: so what two clients do at once may be seen in either order, and what
// came one after the other in that order alone.
func (h *history) impossible() (wrong []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, facts := range h.facts {
		for i, f := range facts {
			if len(f.saw) == 0 {
				continue
			}
			if could := couldBe(facts, i); !slices.ContainsFunc(f.saw, func(s string) bool { return slices.Contains(could, s) }) {
				wrong = append(wrong, fmt.Sprintf("%s: %s, but could only have seen %q\n%s", name, f, could, around(facts, f)))
			}
		}
	}
	return wrong
}

// couldBe is every state that the VM may have had while the i-th fact was learned.
func couldBe(facts []fact, i int) []string {
	f := facts[i]
	var last time.Time // the latest beginning of a deed that was over before f began
	for j, d := range facts {
		if j != i && len(d.leaves) > 0 && !d.doubtful && d.ended.Before(f.begun) && d.begun.After(last) {
			last = d.begun
		}
	}
	var could []string
	if last.IsZero() {
		could = append(could, "")
	}
	for j, d := range facts {
		if j == i || len(d.leaves) == 0 || d.begun.After(f.ended) || d.ended.Before(last) {
			continue
		}
		could = append(could, d.leaves...)
		if !d.ended.Before(f.begun) {
			could = append(could, d.passes...)
		}
	}
	slices.Sort(could)
	return slices.Compact(could)
}

// around is the deeds near a fact, for whoever looks for the defect.
func around(facts []fact, f fact) (s string) {
	for _, d := range facts {
		if len(d.leaves) > 0 && d.ended.After(f.begun.Add(-time.Second)) && d.begun.Before(f.ended.Add(time.Second)) {
			s += fmt.Sprintf("\t%8.3f to %8.3f s %s\n", d.begun.Sub(f.begun).Seconds(), d.ended.Sub(f.begun).Seconds(), d)
		}
	}
	return s
}

// The judge of the hammer must be able to find a wrong answer.
func TestAnswersThatCannotBeAreFound(t *testing.T) {
	at := func(begun, ended int, f fact) fact {
		f.who, f.begun, f.ended = fmt.Sprint(begun), time.Unix(int64(begun), 0), time.Unix(int64(ended), 0)
		return f
	}
	create := fact{saw: gone, passes: made, leaves: down}
	start := fact{saw: down, passes: down, leaves: []string{"running"}}
	remove := fact{saw: there, passes: anything, leaves: gone}
	sees := func(state string) fact { return fact{saw: []string{state}} }
	for name, test := range map[string]struct {
		facts []fact
		wrong string // when the fact began that cannot be
	}{
		"nothing is there at first":        {[]fact{at(1, 2, sees(""))}, ""},
		"what nobody made":                 {[]fact{at(1, 2, sees("stopped"))}, "1"},
		"a life":                           {[]fact{at(1, 2, create), at(3, 4, sees("stopped")), at(5, 6, start), at(7, 8, sees("running")), at(9, 10, remove), at(11, 12, sees(""))}, ""},
		"made and not there":               {[]fact{at(1, 2, create), at(3, 4, sees(""))}, "3"},
		"not there while it is made":       {[]fact{at(1, 5, create), at(3, 4, sees(""))}, ""},
		"being made after it was":          {[]fact{at(1, 2, create), at(3, 4, sees("creating"))}, "3"},
		"stopped after it was started":     {[]fact{at(1, 2, create), at(3, 4, start), at(5, 6, sees("stopped"))}, "5"},
		"either while it is started":       {[]fact{at(1, 2, create), at(3, 8, start), at(4, 5, sees("running")), at(5, 6, sees("stopped"))}, ""},
		"two made it":                      {[]fact{at(1, 2, create), at(3, 4, create)}, "3"},
		"there after it was deleted":       {[]fact{at(1, 2, create), at(3, 4, remove), at(5, 6, sees("stopped"))}, "5"},
		"a doubtful deed leaves the older": {[]fact{at(1, 2, create), at(3, 4, fact{leaves: gone, doubtful: true}), at(5, 6, sees("stopped")), at(7, 8, sees(""))}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var h history
			for _, f := range test.facts {
				h.add("a", f)
			}
			wrong := h.impossible()
			if (len(wrong) == 0) != (test.wrong == "") || len(wrong) > 1 {
				t.Fatalf("wrong: %q", wrong)
			}
			if test.wrong != "" && !strings.HasPrefix(wrong[0], "a: "+test.wrong+" saw") {
				t.Errorf("wrong: %s", wrong[0])
			}
		})
	}
}
