package sshd

import (
	"encoding/binary"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// terminal is what a client says of its own.
type terminal struct {
	term       string
	rows, cols uint16
	modes      modes
}

func (s *session) setTerminal(payload []byte) bool {
	var r struct {
		Term                      string
		Cols, Rows, Width, Height uint32
		Modes                     string
	}
	if s.started || s.tty != nil || ssh.Unmarshal(payload, &r) != nil {
		return false
	}
	s.tty = &terminal{term: r.Term, rows: uint16(r.Rows), cols: uint16(r.Cols), modes: parseModes([]byte(r.Modes))}
	return true
}

func (s *session) resize(payload []byte) bool {
	var r struct{ Cols, Rows, Width, Height uint32 }
	if ssh.Unmarshal(payload, &r) != nil {
		return false
	}
	s.mu.Lock()
	p := s.proc
	s.mu.Unlock()
	if p != nil {
		p.Resize(uint16(r.Rows), uint16(r.Cols))
	}
	return true
}

// modes are a terminal's, by the opcodes of RFC 4254, section 8.
type modes map[uint8]uint32

// lastOpcode is the last of those that have a number behind them.
const lastOpcode = 159

func parseModes(b []byte) modes {
	m := modes{}
	for len(b) >= 5 && b[0] != 0 && b[0] <= lastOpcode {
		m[b[0]] = binary.BigEndian.Uint32(b[1:])
		b = b[5:]
	}
	return m
}

func (m modes) apply(t *unix.Termios) {
	for opcode, at := range controlKeys() {
		if v, ok := m[opcode]; ok {
			if v == 255 {
				v = 0 // no such key
			}
			t.Cc[at] = uint8(v)
		}
	}
	for _, set := range []struct {
		flags *uint32
		bits  map[uint8]uint32
	}{{&t.Iflag, inputModes()}, {&t.Lflag, localModes()}, {&t.Oflag, outputModes()}, {&t.Cflag, controlModes()}} {
		for opcode, bit := range set.bits {
			if v, ok := m[opcode]; ok {
				*set.flags &^= bit
				if v != 0 {
					*set.flags |= bit
				}
			}
		}
	}
}

func controlKeys() map[uint8]int {
	return map[uint8]int{
		1: unix.VINTR, 2: unix.VQUIT, 3: unix.VERASE, 4: unix.VKILL, 5: unix.VEOF, 6: unix.VEOL, 7: unix.VEOL2,
		8: unix.VSTART, 9: unix.VSTOP, 10: unix.VSUSP, 12: unix.VREPRINT, 13: unix.VWERASE, 14: unix.VLNEXT, 18: unix.VDISCARD,
	}
}

func inputModes() map[uint8]uint32 {
	return map[uint8]uint32{
		30: unix.IGNPAR, 31: unix.PARMRK, 32: unix.INPCK, 33: unix.ISTRIP, 34: unix.INLCR, 35: unix.IGNCR, 36: unix.ICRNL,
		37: unix.IUCLC, 38: unix.IXON, 39: unix.IXANY, 40: unix.IXOFF, 41: unix.IMAXBEL, 42: unix.IUTF8,
	}
}

func localModes() map[uint8]uint32 {
	return map[uint8]uint32{
		50: unix.ISIG, 51: unix.ICANON, 52: unix.XCASE, 53: unix.ECHO, 54: unix.ECHOE, 55: unix.ECHOK, 56: unix.ECHONL,
		57: unix.NOFLSH, 58: unix.TOSTOP, 59: unix.IEXTEN, 60: unix.ECHOCTL, 61: unix.ECHOKE, 62: unix.PENDIN,
	}
}

func outputModes() map[uint8]uint32 {
	return map[uint8]uint32{
		70: unix.OPOST, 71: unix.OLCUC, 72: unix.ONLCR, 73: unix.OCRNL, 74: unix.ONOCR, 75: unix.ONLRET,
	}
}

func controlModes() map[uint8]uint32 {
	return map[uint8]uint32{92: unix.PARENB, 93: unix.PARODD}
}
