package cli

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"banger.dev/banger"
)

// confirm asks a person at the terminal; anything but yes is an error. Where
// there is nobody to ask, --force has to say it.
func (a *app) confirm(cmd *cobra.Command, question string) error {
	if !isTerminal(a.Stdin) || a.json {
		return banger.Errorf(banger.KindInvalid, "%s asks first, and here is nobody to ask", verbOf(cmd)).WithNext("%s --force", cmd.CommandPath())
	}
	_, _ = fmt.Fprintf(a.Stderr, "%s [y/N] ", escape(question))
	answer := make(chan string, 1)
	go func() { // which a signal leaves behind, as this process ends
		line, _ := bufio.NewReader(a.Stdin).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case said := <-answer:
		if said == "y" || said == "yes" {
			return nil
		}
		return banger.Errorf(banger.KindCancelled, "nothing was removed")
	case <-cmd.Context().Done():
		return cmd.Context().Err()
	}
}
