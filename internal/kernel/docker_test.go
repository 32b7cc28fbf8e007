package kernel_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// dockerOptions are what a kernel has to be built with for dockerd. The source is
// moby's contrib/check-config.sh, as of November 2025: what it lists as generally
// necessary for a kernel of 5.3 or newer and either version of cgroups, and of
// what it lists as optional the storage and the networks that dockerd has without
// being asked, limits of containers, and the guest's own file system.
const dockerOptions = `
	NAMESPACES NET_NS PID_NS IPC_NS UTS_NS USER_NS
	CGROUPS CGROUP_SCHED CGROUP_BPF CGROUP_FREEZER CGROUP_DEVICE CGROUP_CPUACCT CPUSETS MEMCG
	CGROUP_PIDS BLK_CGROUP CFS_BANDWIDTH
	KEYS POSIX_MQUEUE SECCOMP SECCOMP_FILTER
	VETH BRIDGE BRIDGE_NETFILTER BRIDGE_VLAN_FILTERING VXLAN
	IP_NF_FILTER IP_NF_MANGLE IP_NF_RAW IP_NF_NAT IP_NF_TARGET_MASQUERADE NF_NAT
	IP6_NF_FILTER IP6_NF_MANGLE IP6_NF_RAW IP6_NF_NAT IP6_NF_TARGET_MASQUERADE
	NETFILTER_XT_MATCH_ADDRTYPE NETFILTER_XT_MATCH_CONNTRACK NETFILTER_XT_MATCH_IPVS NETFILTER_XT_MARK
	OVERLAY_FS EXT4_FS EXT4_FS_POSIX_ACL EXT4_FS_SECURITY`

// alsoWanted are for what else is promised to work inside: nftables, without which
// Debian's iptables does nothing, wireguard and fuse.
const alsoWanted = "NF_TABLES NFT_NAT NFT_MASQ NFT_COMPAT WIREGUARD FUSE_FS TUN"

func TestTheDefaultKernelHasWhatDockerNeeds(t *testing.T) {
	if testing.Short() {
		t.Skip("pulls a kernel")
	}
	k := pullForTest(t)
	config, err := os.ReadFile(filepath.Join(filepath.Dir(k.VMLinux), "config"))
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]bool{}
	for line := range strings.Lines(string(config)) {
		option, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		set[option] = value == "y" || value == "m"
	}
	var missing []string
	for _, option := range strings.Fields(dockerOptions + " " + alsoWanted) {
		if !set["CONFIG_"+option] {
			missing = append(missing, "CONFIG_"+option)
		}
	}
	if len(missing) > 0 {
		t.Errorf("%s lacks %s", k.Release, strings.Join(missing, ", "))
	}
}
