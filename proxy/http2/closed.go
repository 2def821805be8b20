package http2

// closedStreams remembers streams that are over, as long as frames for them
// may be under way or tell of an error (RFC 9113 §5.1). Older ones are
// forgotten. The zero value is empty.
type closedStreams struct {
	ended   [16]uint32 // by the client: what follows is an error
	nEnded  int
	resets  []uint32 // by us, the client not having ended: what follows is ignored
	nResets int
}

// keptResets is how many streams that were reset by us are remembered.
const keptResets = 256

func (c *closedStreams) add(id uint32, reset bool) {
	if !reset {
		c.ended[c.nEnded%len(c.ended)] = id
		c.nEnded++
		return
	}
	if len(c.resets) < keptResets {
		c.resets = append(c.resets, id)
	} else {
		c.resets[c.nResets%keptResets] = id
	}
	c.nResets++
}

// hasEnded reports whether the client has ended the stream, and lately.
func (c *closedStreams) hasEnded(id uint32) bool { return has(c.ended[:], id) }

// hasReset reports whether we have reset the stream, and lately.
func (c *closedStreams) hasReset(id uint32) bool { return has(c.resets, id) }

func has(ids []uint32, id uint32) bool {
	for _, other := range ids {
		if other == id {
			return true
		}
	}
	return false
}
