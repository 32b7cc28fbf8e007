package cli

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"banger.dev/banger"
)

// maxEnvFile bounds an --env-file; Linux itself allows a command 2 MiB of
// arguments and environment together.
const maxEnvFile = 2 << 20

// envOptions are the variables of --env and --env-file. Both take the
// variables of this process by name alone, and leave out those it has not.
type envOptions struct {
	lookup func(string) (string, bool)
	files  []string
	env    []string
}

func (o *envOptions) addFlags(flags *pflag.FlagSet) {
	flags.VarP(&envValue{o}, "env", "e", "set a variable; NAME alone takes it from here (may be repeated)")
	flags.Var(&envFileValue{o}, "env-file", "read variables from a `FILE`, a line each (may be repeated)")
}

// variables are K=V without repetition: the files first, then what was given
// on the command line, the later one over the earlier.
func (o *envOptions) variables() ([]string, error) {
	var all []string
	for _, file := range o.files {
		env, err := o.readFile(file)
		if err != nil {
			return nil, err
		}
		all = append(all, env...)
	}
	return lastOfEach(append(all, o.env...)), nil
}

func (o *envOptions) readFile(name string) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, banger.Errorf(banger.KindInvalid, "--env-file: %w", err)
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, maxEnvFile+1))
	if err != nil {
		return nil, banger.Errorf(banger.KindInvalid, "--env-file: %w", err)
	}
	if len(content) > maxEnvFile {
		return nil, banger.Errorf(banger.KindInvalid, "--env-file %s: more than %s", name, banger.Bytes(maxEnvFile))
	}
	return parseEnvFile(name, content, o.lookup)
}

// parseEnvFile reads lines of NAME=VALUE or NAME. As with docker, blank lines
// and lines that begin with # are left out and nothing is unquoted.
func parseEnvFile(name string, content []byte, lookup func(string) (string, bool)) ([]string, error) {
	var env []string
	lines := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(content, []byte("\ufeff"))))
	lines.Buffer(nil, maxEnvFile+1)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimLeftFunc(lines.Text(), unicode.IsSpace)
		if line == "" || line[0] == '#' {
			continue
		}
		key, _, _ := strings.Cut(line, "=")
		if key == "" || strings.ContainsFunc(key, unicode.IsSpace) || !utf8.ValidString(line) || strings.ContainsRune(line, 0) {
			return nil, banger.Errorf(banger.KindInvalid, "--env-file %s, line %d: %q must be NAME=VALUE in UTF-8, no space in the name", name, n, line)
		}
		if pair, ok := resolveEnv(line, lookup); ok {
			env = append(env, pair)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, banger.Errorf(banger.KindInvalid, "--env-file %s: %w", name, err)
	}
	return env, nil
}

// resolveEnv makes K=V of K, or says that this process has no K.
func resolveEnv(s string, lookup func(string) (string, bool)) (string, bool) {
	if strings.Contains(s, "=") {
		return s, true
	}
	value, ok := lookup(s)
	return s + "=" + value, ok
}

// lastOfEach keeps the last of the pairs with the same key, where that key
// first was.
func lastOfEach(env []string) []string {
	at := map[string]int{}
	var out []string
	for _, pair := range env {
		key, _, _ := strings.Cut(pair, "=")
		if i, ok := at[key]; ok {
			out[i] = pair
			continue
		}
		at[key] = len(out)
		out = append(out, pair)
	}
	return out
}

type envValue struct{ o *envOptions }

func (v *envValue) String() string { return "" }
func (v *envValue) Type() string   { return "NAME=VALUE" }
func (v *envValue) Set(s string) error {
	if s == "" || strings.ContainsRune(s, 0) {
		return banger.Errorf(banger.KindInvalid, "--env %q: must be NAME=VALUE, or NAME", s)
	}
	pair, ok := resolveEnv(s, v.o.lookup)
	if !ok {
		return nil
	}
	if err := banger.ValidateEnv(pair); err != nil {
		return err
	}
	v.o.env = append(v.o.env, pair)
	return nil
}

type envFileValue struct{ o *envOptions }

func (v *envFileValue) String() string { return "" }
func (v *envFileValue) Type() string   { return "FILE" }
func (v *envFileValue) Set(s string) error {
	if s == "" {
		return errors.New("needs the name of a file")
	}
	v.o.files = append(v.o.files, s)
	return nil
}
