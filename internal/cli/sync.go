package cli

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"banger.dev/banger"
	"banger.dev/banger/internal/api"
	"banger.dev/banger/internal/filesync"
)

// syncValue is --sync: each word is judged while it is parsed.
type syncValue struct {
	words *[]string
	home  func() string
}

func (v *syncValue) String() string {
	if v.words == nil {
		return ""
	}
	return strings.Join(*v.words, ",")
}
func (v *syncValue) Type() string { return "FILE" }
func (v *syncValue) Set(s string) error {
	if s != banger.SyncConfig && s != banger.SyncNone {
		s = v.fromHome(s)
		if _, err := banger.ParseSync(s); err != nil {
			return err
		}
	}
	*v.words = append(*v.words, s)
	if len(*v.words) > 1 && slices.Contains(*v.words, banger.SyncNone) {
		return banger.Errorf(banger.KindInvalid, "none is nothing, and %s is more", strings.Join(*v.words, " and "))
	}
	return nil
}

// fromHome undoes what a shell makes of ~.
func (v *syncValue) fromHome(s string) string {
	rest, ok := strings.CutPrefix(s, filepath.Clean(v.home())+"/")
	if ok && filepath.IsAbs(v.home()) {
		return "~/" + rest
	}
	return s
}

func (a *app) addSyncFlag(flags *pflag.FlagSet, words *[]string, otherwise string) {
	flags.Var(&syncValue{words: words, home: a.home}, "sync", "files of yours that it gets, as ~/FILE[:~/TARGET[:MODE]], config or none (may be repeated); "+otherwise)
}

func completeSync(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{banger.SyncConfig, banger.SyncNone}, cobra.ShellCompDirectiveDefault
}

func (a *app) home() string {
	home, _ := a.LookupEnv("HOME")
	return home
}

// syncFiles reads the files that words stand for, so that what is wrong with
// them is said before anything is made. One that the settings name need not be
// there.
func (a *app) syncFiles(words []string, ephemeral bool) ([]filesync.File, error) {
	c, err := a.settings()
	if err != nil {
		return nil, err
	}
	all, err := filesync.Wanted(words, ephemeral, c.Sync)
	if err != nil {
		return nil, err
	}
	files, missing, err := filesync.Read(a.home(), all)
	if err != nil {
		return nil, err
	}
	for _, s := range missing {
		if !slices.Contains(c.Sync, s) {
			return nil, banger.Errorf(banger.KindNotFound, "--sync: %s is not there", s.Source).WithNext("ls -la %s", s.Source)
		}
		a.remark("%s, which config.toml names under [[sync]], is not there", s.Source)
	}
	return files, nil
}

// sync puts files into a VM that has started.
func (a *app) sync(ctx context.Context, vm banger.Detail, files []filesync.File) error {
	return filesync.Write(ctx, filesOf(vm), files)
}

// syncStarted puts into the VM that op has started the files that words stand
// for, or those that it was made with. failed is how op ended.
func (a *app) syncStarted(ctx context.Context, op api.Operation, failed error, words []string) error {
	if failed != nil || op.Result == nil || !op.Changed && len(words) == 0 {
		return failed
	}
	vm := *op.Result
	if len(words) == 0 {
		words = vm.Spec.Sync
	}
	files, err := a.syncFiles(words, vm.Spec.Ephemeral)
	if err != nil {
		return err
	}
	return a.sync(ctx, vm, files)
}
