package ext4

import "math/bits"

// hash is the half-MD4 of a name by which directories are indexed.
func (s *skeleton) hash(name string) uint32 {
	state := [4]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}
	var seed [4]uint32
	for i := range seed {
		seed[i] = le.Uint32(s.super[0xec+4*i:])
	}
	if seed != [4]uint32{} {
		state = seed
	}
	signed := le.Uint32(s.super[0x160:])&1 != 0
	for len(name) > 0 {
		words := hashWords(name, signed)
		halfMD4(&state, &words)
		name = name[min(32, len(name)):]
	}
	const end = 0xfffffffe // means the end of a directory
	if h := state[1] &^ 1; h != end {
		return h
	}
	return end - 2
}

// hashWords are up to 32 bytes of a name as 8 words, padded with its length.
func hashWords(name string, signed bool) (words [8]uint32) {
	pad := uint32(len(name)) | uint32(len(name))<<8
	pad |= pad << 16
	for i := range words {
		words[i] = pad
		for j := 4 * i; j < min(4*i+4, len(name)); j++ {
			c := uint32(name[j])
			if signed {
				c = uint32(int8(name[j]))
			}
			words[i] = c + words[i]<<8
		}
	}
	return words
}

// rounds are the three of half-MD4: the constant, the shifts and the order in
// which words are taken.
var rounds = [3]struct {
	add    uint32
	shifts [4]int
	order  [8]int
}{
	{0, [4]int{3, 7, 11, 19}, [8]int{0, 1, 2, 3, 4, 5, 6, 7}},
	{0x5a827999, [4]int{3, 5, 9, 13}, [8]int{1, 3, 5, 7, 0, 2, 4, 6}},
	{0x6ed9eba1, [4]int{3, 9, 11, 15}, [8]int{3, 7, 2, 6, 1, 5, 0, 4}},
}

func halfMD4(state *[4]uint32, words *[8]uint32) {
	a, b, c, d := state[0], state[1], state[2], state[3]
	for round, r := range rounds {
		for i, word := range r.order {
			var f uint32
			switch round {
			case 0:
				f = d ^ b&(c^d)
			case 1:
				f = b&c + (b^c)&d
			case 2:
				f = b ^ c ^ d
			}
			a = bits.RotateLeft32(a+f+words[word]+r.add, r.shifts[i%4])
			a, b, c, d = d, a, b, c
		}
	}
	state[0] += a
	state[1] += b
	state[2] += c
	state[3] += d
}
