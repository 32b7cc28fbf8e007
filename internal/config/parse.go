package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"banger.dev/banger"
)

// parse sets what the file says. The library decodes the whole into a map,
// which finds all that is not TOML; the places of its keys come from a second
// walk.
func (c *Config) parse(file string, content []byte) error {
	var values map[string]any
	if err := toml.Unmarshal(content, &values); err != nil {
		return syntax(file, err)
	}
	var tables []string          // where each [[sync]] is
	named := map[string]string{} // where each [catalog.NAME] begins, by its name
	for _, s := range places(content) {
		where := fmt.Sprintf("%s:%d:%d", file, s.line, s.column)
		if repeats(s.name[:1]) && s.index < 0 {
			return wrong(where, unknown(s.name[0]))
		}
		v, ok := valueAt(values, s)
		if s.table && repeats(s.name) {
			c.Sync = append(c.Sync, banger.Sync{})
			tables = append(tables, where)
			continue
		}
		_, table := v.(map[string]any)
		path, name := strings.Join(s.name, "."), s.name
		if hasNames(s.name[0]) && len(s.name) > 1 {
			if err := c.reopen(s.name[1], table || len(s.name) > 2); err != nil {
				return wrong(where, err)
			}
			if _, begun := named[s.name[1]]; !begun {
				named[s.name[1]] = where
			}
			name = slices.Delete(slices.Clone(s.name), 1, 2)
		}
		if !ok || table {
			// A table by itself says nothing, unless it is none of ours.
			if err := unknownTable(name); err != nil {
				return wrong(where, err)
			}
			continue
		}
		key := strings.Join(name, ".")
		at := slices.IndexFunc(keys, func(k Key) bool { return k.Name == key })
		if at < 0 {
			return wrong(where, unknown(key))
		}
		value, err := keys[at].fromTOML(v)
		if err == nil {
			err = keys[at].set(c, value)
		}
		if err != nil {
			return wrong(where, fmt.Errorf("%s: %w", path, err))
		}
		c.from[path] = fmt.Sprintf("%s:%d", file, s.line)
	}
	for i, s := range c.Sync {
		if s.Source == "" {
			return wrong(tables[i], errors.New("[[sync]] has no source"))
		}
	}
	slices.SortFunc(c.Catalog, func(a, b banger.CatalogEntry) int { return strings.Compare(a.Name, b.Name) })
	for _, e := range c.Catalog {
		if err := judge(e); err != nil {
			return wrong(named[e.Name], err)
		}
	}
	return nil
}

// reopen makes the [catalog.NAME] with this name the last, to which what follows
// belongs. isTable is whether it is written as one.
func (c *Config) reopen(name string, isTable bool) error {
	if !isTable {
		return fmt.Errorf("catalog.%s is a table, written [catalog.%s]", name, name)
	}
	if err := banger.ValidateImageName(name); err != nil {
		return err
	}
	entry := banger.CatalogEntry{Name: name}
	if at := slices.IndexFunc(c.Catalog, func(e banger.CatalogEntry) bool { return e.Name == name }); at >= 0 {
		entry = c.Catalog[at]
		c.Catalog = slices.Delete(c.Catalog, at, at+1)
	}
	c.Catalog = append(c.Catalog, entry)
	return nil
}

// judge is what can be wrong with an entry of the catalog as a whole.
func judge(e banger.CatalogEntry) error {
	if e.Source == "" {
		return fmt.Errorf("[catalog.%s] has no source", e.Name)
	}
	if _, made := e.Suite(); !made && len(e.Packages) > 0 {
		return fmt.Errorf("[catalog.%s] has packages, which only a debian: source can have", e.Name)
	}
	return nil
}

// hasNames says whether a table is written once for each name, as [catalog.NAME].
func hasNames(section string) bool {
	return slices.ContainsFunc(keys, func(k Key) bool { return k.Named && strings.HasPrefix(k.Name, section+".") })
}

// repeats says whether a table is written [[name]], once for each thing.
func repeats(name []string) bool {
	return len(name) == 1 && slices.ContainsFunc(keys, func(k Key) bool {
		section, _, _ := strings.Cut(k.Name, ".")
		return k.Each && section == name[0]
	})
}

func wrong(where string, err error) error {
	return banger.Errorf(banger.KindInvalid, "%s: %w", where, err).WithNext("banger config show --defaults")
}

func syntax(path string, err error) error {
	var place *toml.DecodeError
	if errors.As(err, &place) {
		line, column := place.Position()
		return wrong(fmt.Sprintf("%s:%d:%d", path, line, column), errors.New(oneLine(strings.TrimPrefix(place.Error(), "toml: "))))
	}
	return wrong(path, errors.New(oneLine(strings.TrimPrefix(err.Error(), "toml: "))))
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// place is a key and where it is written.
type place struct {
	name         []string
	line, column int
	table        bool // it is a [[table]]
	index        int  // of the [[table]] that it is in
}

// places are the keys and tables in a valid document, in their order.
func places(content []byte) []place {
	var p unstable.Parser
	p.Reset(content)
	var out []place
	var table []string
	repeated := map[string]int{}
	var walk func(prefix []string, n *unstable.Node)
	walk = func(prefix []string, n *unstable.Node) {
		s := place{name: slices.Clone(prefix)}
		for parts := n.Key(); parts.Next(); {
			part := parts.Node()
			if s.line == 0 {
				start := p.Shape(part.Raw).Start
				s.line, s.column = start.Line, start.Column
			}
			s.name = append(s.name, string(part.Data))
		}
		if n.Kind == unstable.ArrayTable {
			s.table = true
			repeated[strings.Join(s.name, ".")]++
		}
		s.index = repeated[s.name[0]] - 1
		out = append(out, s)
		if n.Kind != unstable.KeyValue {
			table = s.name
			return
		}
		if n.Value().Kind == unstable.InlineTable {
			for inner := n.Value().Children(); inner.Next(); {
				walk(s.name, inner.Node())
			}
		}
	}
	for p.NextExpression() {
		switch n := p.Expression(); n.Kind {
		case unstable.Table, unstable.ArrayTable:
			walk(nil, n)
		case unstable.KeyValue:
			walk(table, n)
		}
	}
	return out
}

// valueAt is the value of a key in the decoded document.
func valueAt(values map[string]any, at place) (any, bool) {
	var v any = values
	for _, part := range at.name {
		if all, ok := v.([]any); ok && repeats(at.name[:1]) && 0 <= at.index && at.index < len(all) {
			v = all[at.index]
		}
		table, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = table[part]; !ok {
			return nil, false
		}
	}
	return v, true
}

func sections() []string {
	var out []string
	for _, k := range keys {
		section, _, _ := strings.Cut(k.Name, ".")
		if !slices.Contains(out, section) {
			out = append(out, section)
		}
	}
	return out
}

// unknownTable is the error for a table that is none of ours.
func unknownTable(name []string) error {
	if len(name) == 1 && slices.Contains(sections(), name[0]) {
		return nil
	}
	whole := strings.Join(name, ".")
	if slices.ContainsFunc(keys, func(k Key) bool { return k.Name == whole }) {
		return fmt.Errorf("%s is a key and not a table", whole)
	}
	return fmt.Errorf("there is no table [%s]; the nearest is [%s]", whole, nearest(whole, sections()))
}

// unknown is the error for a key that is none of ours: one of the same table is
// nearer than any other.
func unknown(name string) error {
	section, key, _ := strings.Cut(name, ".")
	var inside, all []string
	for _, k := range keys {
		all = append(all, k.Name)
		if of, short, _ := strings.Cut(k.Name, "."); of == section {
			inside = append(inside, short)
		}
	}
	if inside != nil && key == "" {
		written := "[" + section + "]"
		if repeats([]string{section}) {
			written = "[" + written + "]"
		}
		if hasNames(section) {
			written = "[" + section + ".NAME]"
		}
		return fmt.Errorf("%s is a table, written %s", section, written)
	}
	if inside != nil {
		return fmt.Errorf("[%s] has no key %q; the nearest is %s", section, key, nearest(key, inside))
	}
	// Outside of a table, or in a strange one, the name alone may be right.
	best, distance := "", -1
	for _, candidate := range all {
		_, short, _ := strings.Cut(candidate, ".")
		for _, written := range []string{candidate, short} {
			if d := edits(name, written); distance < 0 || d < distance {
				best, distance = candidate, d
			}
		}
	}
	return fmt.Errorf("there is no key %q; the nearest is %s", name, best)
}

func nearest(name string, candidates []string) string {
	return slices.MinFunc(candidates, func(a, b string) int { return edits(name, a) - edits(name, b) })
}

// maxEdits bounds what edits compares: names are short, files may be hostile.
const maxEdits = 64

// edits is how many letters must be put in, taken out or changed to make b of a.
func edits(a, b string) int {
	if len(a) > maxEdits {
		a = a[:maxEdits]
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
