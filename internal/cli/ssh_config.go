package cli

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/paths"
	"banger.dev/banger/internal/replace"
)

type sshConfigOptions struct{ install, uninstall bool }

func newSSHConfigCommand(a *app) *cobra.Command {
	opts := &sshConfigOptions{}
	cmd := &cobra.Command{
		Use:   "ssh-config [flags]",
		Short: "Let ssh, scp, rsync, git and editors reach VMs as NAME.vm",
		Long: `Print what ssh has to know to reach every VM as NAME.vm. With --install it is kept in a file of banger's, and one
line that includes it becomes the first of ~/.ssh/config; nothing else there is touched, and --uninstall removes
exactly that line. Installing again, as after banger was moved, is safe.

  banger ssh-config --install
  ssh web.vm
  scp -r src web.vm:
  git clone web.vm:project`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.install && opts.uninstall {
				return usageError(cmd, "--install and --uninstall cannot both be")
			}
			return a.runSSHConfig(opts)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolVar(&opts.install, "install", false, "include it in ~/.ssh/config")
	flags.BoolVar(&opts.uninstall, "uninstall", false, "take it out of there")
	return cmd
}

func (a *app) runSSHConfig(opts *sshConfigOptions) error {
	layout, err := a.layout()
	if err != nil {
		return err
	}
	options, err := a.sshOptions(layout)
	if err != nil {
		return err
	}
	switch {
	case opts.install:
		return a.installSSHConfig(layout, sshConfig(options))
	case opts.uninstall:
		return a.uninstallSSHConfig(layout)
	}
	if a.json {
		return a.printJSON(map[string]string{"config": sshConfig(options), "path": layout.SSHConfig()})
	}
	_, err = io.WriteString(a.Stdout, sshConfig(options))
	return err
}

// includeLine is the one line of ours in the user's file. Paths are quoted as
// ssh unquotes them; a pattern in one is no pattern.
func includeLine(l paths.Layout) string {
	return `Include "` + strings.NewReplacer(`*`, `[*]`, `?`, `[?]`, `[`, `[[]`).Replace(l.SSHConfig()) + `"`
}

func (a *app) installSSHConfig(l paths.Layout, config string) error {
	if err := os.MkdirAll(l.SSH(), 0o700); err != nil {
		return err
	}
	if err := replace.File(l.SSHConfig(), []byte(config), 0o600); err != nil {
		return err
	}
	file, err := a.userSSHConfig()
	if err != nil {
		return err
	}
	before, mode, err := readUserFile(file)
	if err != nil {
		return err
	}
	line := includeLine(l) + "\n"
	if bytes.HasPrefix(before, []byte(line)) {
		a.say("already installed in " + file)
		return nil
	}
	after := append([]byte(line), withoutLine(before, includeLine(l))...)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if err := replaceUserFile(file, after, mode); err != nil {
		return err
	}
	a.say("installed in " + file + ": try ssh NAME.vm")
	return nil
}

func (a *app) uninstallSSHConfig(l paths.Layout) error {
	file, err := a.userSSHConfig()
	if err != nil {
		return err
	}
	before, mode, err := readUserFile(file)
	if err != nil {
		return err
	}
	after := withoutLine(before, includeLine(l))
	if len(after) != len(before) {
		if err := replaceUserFile(file, after, mode); err != nil {
			return err
		}
	}
	if err := os.Remove(l.SSHConfig()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(after) == len(before) {
		a.say("not installed in " + file)
		return nil
	}
	a.say("removed from " + file)
	return nil
}

// userSSHConfig is ~/.ssh/config. ssh itself asks passwd for the home, editors
// and everything else ask $HOME; where the two differ, $HOME is whom the user
// speaks of, and is told.
func (a *app) userSSHConfig() (string, error) {
	home, _ := a.LookupEnv("HOME")
	if !filepath.IsAbs(home) {
		return "", banger.Errorf(banger.KindInvalid, "HOME is not set, so there is no ~/.ssh/config").WithNext("banger ssh-config, and add what it prints to ssh's configuration")
	}
	if u, err := user.LookupId(strconv.Itoa(os.Getuid())); err == nil && filepath.Clean(u.HomeDir) != filepath.Clean(home) {
		a.remark("ssh reads %s/.ssh/config, for that is your home in passwd, not %s; use ssh -F there", u.HomeDir, home)
	}
	return filepath.Join(home, ".ssh", "config"), nil
}

// readUserFile reads a file that need not be there, and its mode.
func readUserFile(file string) ([]byte, fs.FileMode, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0o600, nil
	}
	if err != nil {
		return nil, 0, err
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, 0, err
	}
	return b, info.Mode().Perm(), nil
}

// replaceUserFile replaces a file at once, the one that it is a link to if it is one.
func replaceUserFile(file string, content []byte, mode fs.FileMode) error {
	if target, err := filepath.EvalSymlinks(file); err == nil {
		file = target
	}
	return replace.File(file, content, mode)
}

// withoutLine is text without those of its lines that are line.
func withoutLine(text []byte, line string) []byte {
	var out []byte
	for l := range bytes.Lines(text) {
		if string(bytes.TrimRight(l, "\r\n")) != line {
			out = append(out, l...)
		}
	}
	return out
}
