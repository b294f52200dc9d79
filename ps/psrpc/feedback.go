package psrpc

import "time"

// packer sends the vectors of one life of a worker over one connection, as its codec says.
type packer struct {
	codec    Codec
	feedback feedback
	sent     int64   // bytes of deltas since the last report
	link     float64 // bytes in a second, when Auto measured it
}

// reply is what replies are to travel as. They are not packed before Auto has chosen.
func (p *packer) reply() Codec {
	if p.codec == Auto {
		return FP32
	}
	return p.codec.ReplyCodec()
}

// timed receives a reply and looks how fast it comes.
func (p *packer) timed(u *upstream, dst []float32) error {
	start := time.Now()
	if err := receive(u, dst, &u.in); err != nil {
		return err
	}
	p.measured(len(dst), time.Since(start))
	return nil
}

// measured lets Auto choose by a reply of n elements that came as float32. One that is too small to tell is left out.
func (p *packer) measured(n int, took time.Duration) {
	const least = 64 << 10
	if p.codec == Auto && n >= least {
		p.link = float64(4*n) / took.Seconds()
		p.codec = chooseCodec(p.link)
	}
}

// name is what deltas travel as. While Auto has not chosen, and it does not where there is too little to measure, that is FP32.
func (p *packer) name() string {
	if p.codec == Auto {
		return FP32.String()
	}
	return p.codec.String()
}

// send puts the delta of commit seq on the stream, by way of buffers of pool.
func (p *packer) send(s interface{ SendMsg(any) error }, seq uint64, delta []float32, pool *framePool) error {
	if p.codec == FP32 || p.codec == Auto {
		p.sent += replySize(len(delta), FP32)
		return send(s, delta, FP32, pool)
	}
	if len(delta) == 0 {
		return nil
	}
	f := &p.feedback
	f.codec = p.codec
	f.begin(seq, len(delta))
	for i, lo := 0, 0; lo < len(delta); i, lo = i+1, lo+frameFloats {
		frame := &outgoing{offset: lo, codec: p.codec, count: min(frameFloats, len(delta)-lo), packed: f.piece(i, delta), pool: pool}
		p.sent += int64(codedHead + len(frame.packed))
		if err := s.SendMsg(frame); err != nil {
			return err
		}
	}
	return nil
}

// feedback packs the commits of one life of a worker. It keeps what a lossy codec left out, and the bytes of the last commit
// until the next: a repeat sends the same bytes, or the server would add what the residual then holds a second time.
type feedback struct {
	codec    Codec
	seq      uint64    // of the commit in bytes; 0 for none
	done     int       // elements of it that are packed
	residual []float32 // Int8 and TopK: what was not sent yet
	bytes    []byte
	ends     []int // of the pieces in bytes
}

// begin makes ready for commit seq of n elements. A repeat goes on with what is packed already.
func (f *feedback) begin(seq uint64, n int) {
	if f.seq == seq {
		return
	}
	f.seq, f.done, f.bytes, f.ends = seq, 0, f.bytes[:0], f.ends[:0]
	if f.bytes == nil {
		size := 0
		for lo := 0; lo < n; lo += frameFloats {
			size += f.codec.packed(min(frameFloats, n-lo))
		}
		f.bytes, f.ends = make([]byte, 0, size), make([]int, 0, blocksOf(n, frameFloats))
		if f.codec == Int8 || f.codec == TopK {
			f.residual = make([]float32, n)
		}
	}
}

// piece gives piece i of the commit that began, and packs it if that was not done. Pieces are asked for in order.
func (f *feedback) piece(i int, delta []float32) []byte {
	start := 0
	if i > 0 {
		start = f.ends[i-1]
	}
	if i < len(f.ends) {
		return f.bytes[start:f.ends[i]]
	}
	hi := min(f.done+frameFloats, len(delta))
	x := delta[f.done:hi]
	switch f.codec {
	case BF16:
		f.bytes = packBF16(f.bytes, x)
	case Int8:
		f.bytes = packInt8(f.bytes, x, f.residual[f.done:hi])
	case TopK:
		f.bytes = packTopK(f.bytes, x, f.residual[f.done:hi])
	}
	f.done = hi
	f.ends = append(f.ends, len(f.bytes))
	return f.bytes[start:]
}
