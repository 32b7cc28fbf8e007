// Man writes a manual page for each verb of banger into a directory. It runs
// while banger is built, and is no part of what is shipped. What it writes
// depends on the verbs and on its flags alone.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"banger.dev/banger/internal/cli"
)

func main() {
	dir := flag.String("dir", "", "directory for the pages, which must be there")
	version := flag.String("version", "", "version for the foot of a page")
	epoch := flag.String("epoch", "0", "date for the foot of a page, in seconds since 1970")
	flag.Parse()
	if err := write(*dir, *version, *epoch); err != nil {
		fmt.Fprintln(os.Stderr, "man:", err)
		os.Exit(1)
	}
}

func write(dir, version, epoch string) error {
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return fmt.Errorf("-epoch: %w", err)
	}
	header := doc.GenManHeader{Source: "banger " + version, Manual: "Banger Manual"}
	for _, program := range []*cobra.Command{cli.Documented(), bangerd()} {
		prepare(program)
		if err := pages(program, header, time.Unix(seconds, 0).UTC(), dir); err != nil {
			return err
		}
	}
	return nil
}

// bangerd is what there is to say of the program that nobody types.
func bangerd() *cobra.Command {
	cmd := &cobra.Command{
		Use:                   "bangerd",
		Short:                 "The daemon of banger",
		DisableFlagsInUseLine: true,
		Run:                   func(*cobra.Command, []string) {},
		Long: `Keeps the virtual machines of one user. banger starts it when a command needs it, and it ends by itself when there
has been nothing to do for a while. It may be killed at any time: virtual machines and the commands in them go on, and
the next one finds them. It takes no arguments, and as a unit of a service manager it runs in the foreground.

  banger daemon status
  banger daemon logs -f
  banger daemon stop

SIGHUP has it read config.toml again; SIGTERM and SIGINT end it. The process beside each running virtual machine, its
parent, is "bangerd monitor".

See banger-daemon(1), banger-config(1).`,
	}
	cmd.Flags().BoolP("help", "h", false, "")
	_ = cmd.Flags().MarkHidden("help") // the generator would make it up
	return cmd
}

// pages writes the page of cmd and those of all below it.
func pages(cmd *cobra.Command, header doc.GenManHeader, date time.Time, dir string) error {
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	header.Title, header.Section, header.Date = strings.ToUpper(name), "1", &date
	var text bytes.Buffer
	if err := doc.GenMan(cmd, &header, &text); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, name+".1"), []byte(tidy(text.String(), date)), 0o644); err != nil {
		return err
	}
	for _, c := range cmd.Commands() {
		if !c.IsAvailableCommand() || c.IsAdditionalHelpTopicCommand() {
			continue
		}
		if err := pages(c, header, date, dir); err != nil {
			return err
		}
	}
	return nil
}

// tidy mends a page: flags are a list, where the generator indents by tabs, and
// the date is a whole one.
func tidy(page string, date time.Time) string {
	lines := strings.Split(page, "\n")
	for i, line := range lines {
		if text, ok := strings.CutPrefix(line, "\t"); ok && i >= 2 {
			lines[i] = text
			if lines[i-2] == ".PP" {
				lines[i-2] = ".TP"
			} else {
				lines[i-1] = ".TP\n" + lines[i-1]
			}
		}
		if strings.HasPrefix(line, ".TH ") {
			lines[i] = strings.Replace(line, date.Format(`"Jan 2006"`), date.Format(`"2006-01-02"`), 1)
		}
	}
	return strings.Join(lines, "\n")
}

// prepare makes the help of cmd and of all below it what the generator takes:
// markdown, without a remark on who generated it.
func prepare(cmd *cobra.Command) {
	cmd.DisableAutoGenTag = true
	cmd.Long = markdown(cmd.Long)
	for _, c := range cmd.Commands() {
		prepare(c)
	}
}

// markdown is a help text as markdown: its examples, which are indented, become
// blocks of code, and in the rest nothing is markup.
func markdown(text string) string {
	plain := strings.NewReplacer("\\", "\\\\", "*", "\\*", "_", "\\_", "<", "\\<", "`", "\\`", "[", "\\[", "]", "\\]")
	var out strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "  ") {
			out.WriteString("  " + line)
		} else {
			out.WriteString(plain.Replace(line))
		}
	}
	return out.String()
}
