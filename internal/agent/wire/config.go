package wire

// Config is the content of the config disk (vda), made anew by the host for
// each start. The disk is: magic "BANGERC1", length (u32, big endian), sha256
// of the JSON, the JSON, zeros up to ConfigDiskSize.
type Config struct {
	ID         string       `json:"id"`
	Name       string       `json:"name"` // also the host name
	MachineID  string       `json:"machine_id"`
	Generation uint64       `json:"generation"` // counts identities; a fork gets the next
	Seed       []byte       `json:"seed"`       // for the guest's random pool, fresh at each start
	Init       string       `json:"init"`       // auto or none
	Root       string       `json:"root"`       // device name such as vdb
	Work       string       `json:"work"`       // device name, or "" without a work disk
	Modules    string       `json:"modules"`    // device name, or ""
	Network    *Network     `json:"network"`    // null without NIC
	Env        []string     `json:"env"`        // K=V, for every command
	Workdir    string       `json:"workdir"`    // default for commands; "" is the user's home
	User       string       `json:"user"`       // default for commands; "" is root
	Hosts      []HostRecord `json:"hosts,omitempty"`
	SSH        *SSH         `json:"ssh,omitempty"` // null: no ssh server
}

// SSH is who the guest's ssh server is, and whom it lets in.
type SSH struct {
	HostKey    string `json:"host_key"`   // private, OpenSSH's PEM
	Authorized string `json:"authorized"` // a public key as authorized_keys has it
}

// HostRecord is a line of /etc/hosts.
type HostRecord struct {
	Address string   `json:"address"`
	Names   []string `json:"names"`
}

// Network is how the guest configures its NIC.
type Network struct {
	MAC      string   `json:"mac"`
	Address  string   `json:"address"` // CIDR
	Gateway  string   `json:"gateway"`
	Address6 string   `json:"address6,omitempty"` // CIDR; "" without IPv6
	Gateway6 string   `json:"gateway6,omitempty"`
	MTU      int      `json:"mtu,omitempty"` // 0: the device's own
	DNS      []string `json:"dns"`
}

// ConfigDiskSize is the size of the config disk in bytes.
const ConfigDiskSize = 1 << 20
