package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func sampleConfig() Config {
	return Config{
		ID: "0123456789abcdef", Name: "box", MachineID: strings.Repeat("a", 32), Generation: 3, Seed: []byte{1, 2, 3}, Init: "auto", Root: "vdb", Work: "vdc", Modules: "vdd",
		Network: &Network{MAC: "52:54:00:00:00:01", Address: "10.0.2.15/24", Gateway: "10.0.2.2", DNS: []string{"10.0.2.3"}},
		Env:     []string{"A=1"}, Workdir: "/src", User: "u", Hosts: []HostRecord{{Address: "10.0.0.1", Names: []string{"x"}}},
	}
}

func TestConfigDiskComesBack(t *testing.T) {
	disk, err := EncodeConfig(sampleConfig())
	if err != nil {
		t.Fatal(err)
	}
	if len(disk) != ConfigDiskSize {
		t.Errorf("%d bytes", len(disk))
	}
	got, err := DecodeConfig(bytes.NewReader(disk))
	if err != nil || !reflect.DeepEqual(got, sampleConfig()) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestADamagedConfigDiskIsRefused(t *testing.T) {
	disk, err := EncodeConfig(sampleConfig())
	if err != nil {
		t.Fatal(err)
	}
	length := int(binary.BigEndian.Uint32(disk[8:]))
	for at := range configHeader + length {
		bad := bytes.Clone(disk[:configHeader+length])
		bad[at] ^= 1
		if _, err := DecodeConfig(bytes.NewReader(bad)); !errors.Is(err, ErrConfigDisk) {
			t.Fatalf("byte %d flipped: %v", at, err)
		}
	}
	for _, size := range []int{0, 1, configHeader, configHeader + length - 1} {
		if _, err := DecodeConfig(bytes.NewReader(disk[:size])); !errors.Is(err, ErrConfigDisk) {
			t.Errorf("cut after %d bytes: %v", size, err)
		}
	}
}

func TestATooLargeConfigIsRefused(t *testing.T) {
	c := sampleConfig()
	c.Env = []string{"A=" + strings.Repeat("x", ConfigDiskSize)}
	if _, err := EncodeConfig(c); err == nil {
		t.Error("it was encoded")
	}
}

// FuzzConfigDisk: a disk that is taken for valid holds a configuration that can
// be written again; nothing else panics or reads past the disk.
func FuzzConfigDisk(f *testing.F) {
	disk, err := EncodeConfig(sampleConfig())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(disk[:1024])
	f.Add([]byte(configMagic + "\xff\xff\xff\xff"))
	f.Add([]byte(configMagic))
	f.Fuzz(func(t *testing.T, disk []byte) {
		c, err := DecodeConfig(bytes.NewReader(disk))
		if err != nil {
			return
		}
		again, err := EncodeConfig(c)
		if err != nil {
			t.Skip("grown in JSON")
		}
		if d, err := DecodeConfig(bytes.NewReader(again)); err != nil || !reflect.DeepEqual(c, d) {
			t.Fatalf("%+v became %+v, %v", c, d, err)
		}
	})
}
