package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

const configMagic = "BANGERC1"

// configHeader is magic, length and sha256.
const configHeader = len(configMagic) + 4 + sha256.Size

// ErrConfigDisk means that a disk is no config disk, or a damaged one.
var ErrConfigDisk = errors.New("not a valid config disk")

// EncodeConfig makes the whole content of a config disk.
func EncodeConfig(c Config) ([]byte, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	if len(b) > ConfigDiskSize-configHeader {
		return nil, fmt.Errorf("the VM's configuration is too long: %d bytes (at most %d); is its environment that large?", len(b), ConfigDiskSize-configHeader)
	}
	sum := sha256.Sum256(b)
	disk := make([]byte, 0, ConfigDiskSize)
	disk = append(disk, configMagic...)
	disk = binary.BigEndian.AppendUint32(disk, uint32(len(b)))
	disk = append(disk, sum[:]...)
	disk = append(disk, b...)
	return disk[:ConfigDiskSize], nil
}

// DecodeConfig reads a config disk, and of it no more than is used.
func DecodeConfig(r io.Reader) (Config, error) {
	var c Config
	head := make([]byte, configHeader)
	if _, err := io.ReadFull(r, head); err != nil {
		return c, fmt.Errorf("%w: %w", ErrConfigDisk, err)
	}
	if !bytes.HasPrefix(head, []byte(configMagic)) {
		return c, fmt.Errorf("%w: it does not begin with %q", ErrConfigDisk, configMagic)
	}
	length := binary.BigEndian.Uint32(head[len(configMagic):])
	if length > uint32(ConfigDiskSize-configHeader) {
		return c, fmt.Errorf("%w: a length of %d bytes", ErrConfigDisk, length)
	}
	b := make([]byte, length)
	if _, err := io.ReadFull(r, b); err != nil {
		return c, fmt.Errorf("%w: %w", ErrConfigDisk, err)
	}
	if sum := sha256.Sum256(b); !bytes.Equal(sum[:], head[len(configMagic)+4:]) {
		return c, fmt.Errorf("%w: its checksum does not fit", ErrConfigDisk)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("%w: %w", ErrConfigDisk, err)
	}
	return c, nil
}
