package kernel

import "golang.org/x/sys/cpu"

// native lists the assembly sets that this processor and its operating system can run, best first. The flags of
// package cpu include that the system saves the registers.
func native() []Set {
	var sets []Set
	avx2 := cpu.X86.HasAVX2 && cpu.X86.HasFMA
	if avx2 && cpu.X86.HasAVX512F {
		sets = append(sets, newAVX512())
	}
	if avx2 {
		sets = append(sets, newAVX2())
	}
	return sets
}
