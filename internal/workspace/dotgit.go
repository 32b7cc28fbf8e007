package workspace

import (
	"context"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"banger.dev/banger"
)

// dotGit is what is in the .git of a copy: made anew, so that no hook, no
// program and no password of the host's repository comes with it. Objects are
// the host's files as they are.
type dotGit struct {
	made   map[string]string // small files by their paths below .git
	copied map[string]string // files of the host by their paths below .git
}

// pattern is a regular expression that is compiled at its first use: every start
// of banger loads this package, and few need one.
func pattern(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}

// objectFile is a path below an objects directory that is part of the store.
var objectFile = pattern(`^([0-9a-f]{2}/[0-9a-f]{38,62}|pack/pack-[0-9a-f]+\.(pack|idx|rev|promisor))$`)

// keptSettings of a repository mean something elsewhere too, and run nothing.
var keptSettings = pattern(`^(core\.(autocrlf|eol|safecrlf|filemode|ignorecase|symlinks|sparsecheckout(cone)?)|` +
	`user\.(name|email)|init\.defaultbranch|remote\..*\.(url|fetch|promisor|partialclonefilter)|branch\..*\.(remote|merge)|` +
	`extensions\.(objectformat|partialclone)|submodule\..*\.(url|active)|index\.sparse)$`)

func newDotGit(ctx context.Context, s source, how Options) (dotGit, error) {
	d := dotGit{made: map[string]string{"refs/heads/": "", "objects/pack/": "", "info/": ""}, copied: map[string]string{}}
	g := inRepository(s.root)
	settings, err := g.run(ctx, "config", "--list", "-z")
	if err != nil {
		return d, err
	}
	d.made["config"] = config(settings)
	refs, err := g.run(ctx, "for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags", "refs/remotes")
	if err != nil {
		return d, err
	}
	d.made["HEAD"] = s.branch
	switch {
	case how.Branch != "":
		if s.head == "" {
			return d, banger.Errorf(banger.KindConflict, "a branch cannot begin in %s, which has no commit", s.root).WithNext("git -C %s commit", quote(s.root))
		}
		d.made["HEAD"] = "refs/heads/" + how.Branch
		refs += s.head + " refs/heads/" + how.Branch + "\n"
	case s.branch == "":
		d.made["HEAD"] = s.head
	}
	if strings.HasPrefix(d.made["HEAD"], "refs/") {
		d.made["HEAD"] = "ref: " + d.made["HEAD"]
	}
	d.made["HEAD"] += "\n"
	d.made["packed-refs"] = packedRefs(refs)
	d.state(s)
	if how.Depth > 0 && s.head != "" {
		return d, d.shallow(ctx, s, how)
	}
	return d, d.objects(s.commonDir)
}

// config writes those settings that are kept. Passwords in addresses are not.
func config(settings string) string {
	out := []string{"[core]\n\trepositoryformatversion = 1\n\tbare = false\n"}
	for entry := range strings.SplitSeq(settings, "\x00") {
		key, value, _ := strings.Cut(entry, "\n")
		if !keptSettings().MatchString(key) {
			continue
		}
		if u, err := url.Parse(value); err == nil && u.User != nil {
			u.User = nil
			value = u.String()
		}
		section, name := key[:strings.LastIndex(key, ".")], key[strings.LastIndex(key, ".")+1:]
		if top, sub, found := strings.Cut(section, "."); found {
			section = top + ` "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(sub) + `"`
		}
		out = append(out, fmt.Sprintf("[%s]\n\t%s = %s\n", section, name, `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(value)+`"`))
	}
	return strings.Join(out, "")
}

func packedRefs(refs string) string {
	lines := strings.Split(strings.TrimSpace(refs), "\n")
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(nameOf(a), nameOf(b)) })
	lines = slices.CompactFunc(lines, func(a, b string) bool { return nameOf(a) == nameOf(b) })
	return "# pack-refs with: sorted \n" + strings.TrimPrefix(strings.Join(lines, "\n")+"\n", "\n")
}

func nameOf(line string) string {
	_, name, _ := strings.Cut(line, " ")
	return name
}

// state adds the files that say what is staged, ignored and under way.
func (d *dotGit) state(s source) {
	for _, name := range []string{"index", "MERGE_HEAD", "MERGE_MSG", "MERGE_MODE", "CHERRY_PICK_HEAD", "REVERT_HEAD", "info/sparse-checkout"} {
		d.copyIfThere(filepath.Join(s.gitDir, name), name)
	}
	for _, name := range []string{"info/exclude", "info/attributes", "shallow"} {
		d.copyIfThere(filepath.Join(s.commonDir, name), name)
	}
	shared, _ := fs.Glob(os.DirFS(s.gitDir), "sharedindex.*")
	for _, name := range shared {
		d.copyIfThere(filepath.Join(s.gitDir, name), name)
	}
}

func (d *dotGit) copyIfThere(from, to string) {
	if info, err := os.Lstat(from); err == nil && info.Mode().IsRegular() {
		d.copied[to] = from
	}
}

// objects adds the store of objects, and those that it borrows from.
func (d *dotGit) objects(commonDir string) error {
	for _, dir := range objectDirs(commonDir) {
		subs, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, sub := range subs {
			files, err := os.ReadDir(filepath.Join(dir, sub.Name()))
			if err != nil {
				continue // info/ holds none; a file is none
			}
			for _, file := range files {
				if name := path.Join(sub.Name(), file.Name()); objectFile().MatchString(name) {
					d.copied["objects/"+name] = filepath.Join(dir, name)
				}
			}
		}
	}
	return nil
}

// shallow makes a repository of the last commits, and adds its objects.
func (d *dotGit) shallow(ctx context.Context, s source, how Options) error {
	dir := filepath.Join(how.scratch, "shallow-"+strconv.Itoa(len(d.copied))+filepath.Base(s.root))
	own := inOwn(dir)
	if _, err := own.run(ctx, "init", "--quiet", "--bare", "--object-format="+s.format); err != nil {
		return err
	}
	if _, err := own.run(ctx, "-c", "protocol.file.allow=always", "fetch", "--quiet", "--no-tags", "--depth="+strconv.Itoa(how.Depth),
		"file://"+s.commonDir, s.head); err != nil {
		return err
	}
	ref := s.branch
	if how.Branch != "" {
		ref = "refs/heads/" + how.Branch
	}
	d.made["packed-refs"] = packedRefs("")
	if ref != "" {
		d.made["packed-refs"] = packedRefs(s.head + " " + ref)
	}
	d.copyIfThere(filepath.Join(dir, "shallow"), "shallow")
	return d.objects(dir)
}
