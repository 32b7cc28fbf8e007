package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"banger.dev/banger/internal/config"
)

func newConfigCommand(a *app) *cobra.Command {
	cmd := newGroup("config", "Look at the settings", `Look at the settings. They are in config.toml; the variable BANGER_<TABLE>_<KEY> is above the file, a flag above both.

  banger config show
  banger config show --defaults | install -Dm 600 /dev/stdin "$(banger config path)"`)
	cmd.AddCommand(newConfigShowCommand(a), newConfigPathCommand(a))
	return cmd
}

// settings are what the user has set.
func (a *app) settings() (config.Config, error) {
	layout, err := a.layout()
	if err != nil {
		return config.Config{}, err
	}
	return config.Load(layout.ConfigFile(), a.LookupEnv)
}

// setting is the JSON form of one key.
type setting struct {
	Key      string `json:"key"`
	Value    any    `json:"value"` // as in TOML: string, number, boolean or list
	Default  any    `json:"default"`
	From     string `json:"from"` // default, a variable, or the file with a line
	Variable string `json:"variable"`
	Doc      string `json:"doc"`
}

func newConfigShowCommand(a *app) *cobra.Command {
	defaults := false
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print every setting, its value and where that is from",
		Long: `Print every setting, its value and where that is from. With --defaults, a config.toml that explains every key.

  banger config show
  banger config show --defaults`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return a.runConfigShow(defaults) },
	}
	cmd.Flags().BoolVar(&defaults, "defaults", false, "what holds where nothing is set, explained")
	return cmd
}

func (a *app) runConfigShow(defaults bool) error {
	none := config.Default()
	c := none
	if !defaults {
		var err error
		if c, err = a.settings(); err != nil {
			return err
		}
	}
	if defaults && !a.json {
		_, err := io.WriteString(a.Stdout, config.Document())
		return err
	}
	all := []setting{}
	rows := [][]string{{"KEY", "VALUE", "FROM"}}
	for _, k := range c.Keys() {
		from := c.From(k.Name)
		if from == "" {
			from = "default"
		}
		all = append(all, setting{Key: k.Name, Value: k.Value(c), Default: k.Value(none), From: from, Variable: k.Variable(), Doc: k.Doc})
		rows = append(rows, []string{k.Name, k.TOML(c), from})
	}
	if a.json {
		return a.printJSON(all)
	}
	return printTable(a.Stdout, rows)
}

func newConfigPathCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "path",
		Short: "Print where config.toml is, or would be",
		Long: `Print where config.toml is, or would be.

  banger config path`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			layout, err := a.layout()
			switch {
			case err != nil:
				return err
			case a.json:
				return a.printJSON(map[string]string{"path": layout.ConfigFile()})
			}
			_, err = fmt.Fprintln(a.Stdout, escape(layout.ConfigFile()))
			return err
		},
	}
}
