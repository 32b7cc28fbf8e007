package kernel

import (
	"context"
	"fmt"

	"banger.dev/banger/internal/image/ext4"
)

// writeModulesDisk makes the file system that is mounted read-only at
// /lib/modules in a guest, of the directory modules.
func writeModulesDisk(ctx context.Context, file, modules string) error {
	if err := ext4.FromDir(ctx, file, modules, ext4.Options{Label: "modules"}); err != nil {
		return fmt.Errorf("make the modules disk: %w", err)
	}
	return nil
}
