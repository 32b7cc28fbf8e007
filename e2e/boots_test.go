package e2e

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
)

// bootsAtOnce is how many of the boots in a row run side by side: a busy host
// is where a boot hangs, if it does.
const bootsAtOnce = 2

// TestBoots boots VMs in a row, with and without the image's init as PID 1,
// and runs a command in each. 20 of them, or as many as BANGER_BOOTS says.
func TestBoots(t *testing.T) {
	boots := 20
	if s := os.Getenv("BANGER_BOOTS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("BANGER_BOOTS=%q: %v", s, err)
		}
		boots = n
	}
	h := story(t)
	slots := make(chan struct{}, bootsAtOnce)
	var wg sync.WaitGroup
	for i := range boots {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			init := []string{"none", "auto"}[i%2]
			want := fmt.Sprintf("boot %d", i)
			out, err := h.banger("vm", "run", "--rm", "--init", init, "--", "echo", want).CombinedOutput()
			if err != nil || string(out) != want+"\n" {
				t.Errorf("boot %d with --init %s: %v\n%s", i, init, err, out)
			}
		})
	}
	wg.Wait()
}
