package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"banger.dev/banger"
)

// configured takes what no flag has set from the settings.
func (o *specOptions) configured(cmd *cobra.Command) error {
	c, err := o.settings()
	if err != nil {
		return err
	}
	o.config = c
	changed := cmd.Flags().Changed
	for flag, take := range map[string]func(){
		"image":  func() { o.spec.Image = c.Defaults.Image },
		"kernel": func() { o.spec.Kernel = c.Defaults.Kernel },
		"vcpus":  func() { o.spec.VCPUs = c.Defaults.VCPUs },
		"memory": func() { o.spec.Memory = c.Defaults.Memory },
		"disk":   func() { o.spec.Disk = c.Defaults.Disk },
		"work":   func() { o.spec.Work = c.Defaults.Work },
		"net":    func() { o.spec.Net = c.Defaults.Net },
		"vmm":    func() { o.spec.VMM = c.Defaults.VMM },
		"init": func() {
			// What a verb has chosen for itself gives way to what was set alone.
			if c.From("defaults.init") != "" {
				o.spec.Init = c.Defaults.Init
			}
		},
	} {
		if !changed(flag) {
			take()
		}
	}
	o.spec.FitDisk = !changed("disk")
	return nil
}

// blame names the setting, where one and not a flag has the value that err
// refuses.
func (o *specOptions) blame(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	for _, k := range o.config.Keys() {
		name := strings.TrimPrefix(k.Name, "defaults.")
		rest, found := strings.CutPrefix(err.Error(), "--"+name+" ")
		if from := o.config.From(k.Name); found && from != "" && !cmd.Flags().Changed(name) {
			return banger.Errorf(banger.KindInvalid, "%s: %s %s", from, k.Name, rest).WithNext("banger config show")
		}
	}
	return err
}
