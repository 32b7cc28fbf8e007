package cli

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"banger.dev/banger"
)

func TestPlainProgress(t *testing.T) {
	type step struct {
		after  time.Duration
		report banger.Progress
	}
	pull := func(done int64) banger.Progress {
		return banger.Progress{Stage: "pull image", Message: "debian", Done: done, Total: int64(100 * banger.MiB), Bytes: true}
	}
	for name, test := range map[string]struct {
		steps []step
		want  string
	}{
		"cached":         {[]step{{0, banger.Progress{Stage: "image"}}, {time.Second, banger.Progress{Stage: "boot"}}}, ""},
		"a slow boot":    {[]step{{0, banger.Progress{Stage: "boot"}}, {time.Minute, banger.Progress{Stage: "boot"}}}, ""},
		"another's turn": {[]step{{0, banger.Progress{Stage: "wait", Message: "another command"}}, {time.Minute, banger.Progress{Stage: "copy"}}}, "banger: wait: another command\n"},
		"silent stage":   {[]step{{0, banger.Progress{Stage: "image", Message: "unpacking\x1b"}}, {time.Minute, banger.Progress{Stage: "boot"}}}, "banger: image: unpacking\\x1b\n"},
		"pull": {
			[]step{
				{0, pull(0)}, {time.Second, pull(int64(5 * banger.MiB))}, {2 * time.Second, pull(int64(11 * banger.MiB))},
				{time.Second, pull(int64(12 * banger.MiB))}, {time.Second, pull(int64(100 * banger.MiB))}, {0, banger.Progress{Stage: "boot"}},
			},
			"banger: pull image: debian 0% of 100MiB\nbanger: pull image: debian 10% of 100MiB\nbanger: pull image: debian 100% of 100MiB\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				p := newPlainProgress(&out)
				for _, s := range test.steps {
					time.Sleep(s.after)
					synctest.Wait()
					p.report(s.report)
				}
				p.end()
				p.end()
				p.report(pull(1))
				time.Sleep(time.Hour)
				if got := out.String(); got != test.want {
					t.Errorf("got %q, want %q", got, test.want)
				}
			})
		})
	}
}
