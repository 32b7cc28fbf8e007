package lifecycle

import (
	"crypto/rand"
	"encoding/hex"
	"math/big"

	"banger.dev/banger"
)

// Words of the names that VMs get when nobody names them.
var (
	adjectives = []string{
		"amber", "bold", "brave", "brisk", "calm", "clear", "crisp", "deft", "eager", "fair", "fleet", "fond", "frank", "fresh", "glad", "grand",
		"hardy", "keen", "kind", "light", "lively", "lucid", "mellow", "merry", "neat", "noble", "plain", "proud", "quick", "quiet", "rapid", "ready",
		"sharp", "shy", "sleek", "smart", "snug", "solid", "spry", "stout", "sunny", "sure", "swift", "tidy", "vivid", "warm", "witty", "young",
	}
	nouns = []string{
		"badger", "beaver", "bison", "crane", "curlew", "deer", "dove", "eagle", "egret", "falcon", "ferret", "finch", "fox", "gecko", "goose", "hare",
		"heron", "ibex", "jackal", "jay", "kestrel", "koala", "lark", "lemur", "lynx", "magpie", "marten", "mole", "moose", "newt", "otter", "owl",
		"panda", "pika", "plover", "puffin", "quail", "raven", "robin", "seal", "shrew", "stork", "swan", "tapir", "tern", "toad", "vole", "wren",
	}
)

func randomName() (string, error) {
	a, err := pick(adjectives)
	if err != nil {
		return "", err
	}
	n, err := pick(nouns)
	return a + "-" + n, err
}

func pick(words []string) (string, error) {
	i, err := rand.Int(rand.Reader, big.NewInt(int64(len(words))))
	if err != nil {
		return "", err
	}
	return words[i.Int64()], nil
}

// idBytes is the length of an id; two hex digits a byte.
const idBytes = 8

func randomHex(bytes int) (string, error) {
	b := make([]byte, bytes)
	_, err := rand.Read(b)
	return hex.EncodeToString(b), err
}

// macOf is a locally administered address that names the VM it belongs to.
func macOf(id string) string {
	mac := "02"
	for i := 0; i < 10; i += 2 {
		mac += ":" + id[i:i+2]
	}
	return mac
}

// newIdentity is what a VM keeps from its creation on.
func newIdentity(id string, p Platform, diskDriver string) (banger.MachineIdentity, error) {
	machineID, err := randomHex(16)
	return banger.MachineIdentity{
		MachineID: machineID, MAC: macOf(id), Generation: 1,
		VMM: p.VMM, VMMVersion: p.Version, Machine: p.Machine, CPU: p.CPU, DiskDriver: diskDriver,
	}, err
}
