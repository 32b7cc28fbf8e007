package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"banger.dev/banger"
	"banger.dev/banger/internal/agent/archive"
	"banger.dev/banger/internal/client"
)

type kernelImportOptions struct{ name, modules string }

func newKernelImportCommand(a *app) *cobra.Command {
	opts := &kernelImportOptions{}
	cmd := &cobra.Command{
		Use:   "import --name NAME [--modules DIR] FILE|DIR|-",
		Short: "Make a kernel of a package, of an unpacked one, or of a kernel file",
		Long: `Make a kernel of what is on this host, or comes on standard input, and print its digest:

  a Debian package        linux-image-*.deb, with the modules in it
  a directory             a package of any distribution, or several, unpacked: boot/vmlinuz-* or lib/modules/*/vmlinuz,
                          and the modules below lib/modules or usr/lib/modules
  a kernel file           a bzImage, or an uncompressed vmlinux for x86-64; with its modules if --modules names the
                          directory that make modules_install has filled, or else all that a guest needs to boot built in

It must have an entry point for virtual machines, CONFIG_PVH. A kernel that had that name loses it; VMs that use it keep
it.

  banger kernel import --name mine linux-image-6.12.1_amd64.deb
  rpm2cpio kernel-core.rpm | cpio -idm -D fedora && banger kernel import --name fedora fedora
  make modules_install INSTALL_MOD_PATH=out && banger kernel import --name dev --modules out arch/x86/boot/bzImage`,
		Args: between(1, 1, "FILE, DIR or -"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.name == "" {
				return usageError(cmd, "kernel import needs --name NAME, the name of the kernel")
			}
			return a.runKernelImport(cmd.Context(), args[0], opts)
		},
	}
	cmd.Flags().StringVar(&opts.name, "name", "", "name of the kernel")
	cmd.Flags().StringVar(&opts.modules, "modules", "", "directory of the modules of a kernel file")
	_ = cmd.MarkFlagDirname("modules")
	return cmd
}

func (a *app) runKernelImport(ctx context.Context, from string, opts *kernelImportOptions) error {
	in, size, err := a.openKernel(from, opts.modules)
	if err != nil {
		return err
	}
	up := &sending{in: in, from: from, stage: "kernel", then: "unpack and index the modules", total: size}
	k, err := upload(ctx, a, up, func(d *client.Client) (banger.Kernel, error) { return d.ImportKernel(ctx, opts.name, up) })
	if err != nil {
		return err
	}
	return a.printKernel(k)
}

// openKernel is what is to be imported as a stream, and its size if that is known.
func (a *app) openKernel(from, modules string) (in io.ReadCloser, size int64, err error) {
	if from == "-" && modules == "" {
		in, err = a.standardInput("kernel import reads a package or a kernel", "banger kernel import --name NAME - <FILE")
		return in, 0, err
	}
	st, err := statSource(from)
	if err == nil && modules != "" {
		_, err = statSource(modules)
	}
	if err != nil {
		return nil, 0, err
	}
	switch {
	case st.IsDir() && modules != "":
		err = errors.New("--modules is for a kernel file, and " + from + " is a directory")
	case st.IsDir():
		in, err = packTar(from, func(p *archive.Packer, dir *os.File) error {
			p.Skip = noPartOfAKernel
			return p.Add(dir, ".", ".")
		})
	case modules != "":
		in, err = packKernel(from, modules)
	default:
		in, err = os.Open(from)
		size = st.Size()
	}
	if err != nil {
		return nil, 0, banger.Errorf(banger.KindInvalid, "%w", err)
	}
	return in, size, nil
}

// noPartOfAKernel says what of an unpacked package need not be sent.
func noPartOfAKernel(name string) bool {
	if name == "." {
		return false
	}
	name = strings.TrimPrefix(name, "./")
	for _, part := range []string{"boot", "lib/modules", "usr/lib/modules"} {
		if name == part || strings.HasPrefix(name, part+"/") || strings.HasPrefix(part, name+"/") {
			return false
		}
	}
	return true
}

// packKernel is a tar of a kernel and of its modules.
func packKernel(kernel, modules string) (io.ReadCloser, error) {
	below, err := modulesIn(modules)
	if err != nil {
		return nil, err
	}
	return packTar(below, func(p *archive.Packer, dir *os.File) error {
		beside, err := archive.OpenDir(filepath.Dir(kernel))
		if err != nil {
			return err
		}
		defer func() { _ = beside.Close() }()
		return errors.Join(p.Add(beside, filepath.Base(kernel), "vmlinuz"), p.Add(dir, ".", "modules"))
	})
}

// modulesIn finds the one kernel's modules in what make modules_install was given
// or has made.
func modulesIn(dir string) (string, error) {
	for _, parent := range []string{"", "*/", "lib/modules/*/", "usr/lib/modules/*/"} {
		found, err := fs.Glob(os.DirFS(dir), parent+"modules.order")
		switch {
		case err != nil:
			return "", err
		case len(found) > 1:
			return "", errors.New(dir + " has modules of several kernels")
		case len(found) == 1:
			return filepath.Join(dir, filepath.Dir(found[0])), nil
		}
	}
	return "", errors.New(dir + " has no kernel's modules: there is no modules.order in it")
}
