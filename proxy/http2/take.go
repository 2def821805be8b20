package http2

import (
	"encoding/binary"

	h2 "golang.org/x/net/http2"
)

// settingNoPriorities tells that priorities are ignored (RFC 9218 §2.1).
const settingNoPriorities h2.SettingID = 9

func violation(code h2.ErrCode, reason string) *ConnError { return &ConnError{code, reason} }

// take acts on one frame. Frames of unknown types are ignored.
func (c *conn) take(f frame) *ConnError {
	if err := c.inOrder(f); err != nil {
		return c.blame(err)
	}
	var err *ConnError
	switch f.kind {
	case h2.FrameHeaders:
		err = c.takeHeaders(f)
	case h2.FrameContinuation:
		err = c.takeContinuation(f)
	default:
		c.mu.Lock()
		err = c.takeLocked(f)
		c.mu.Unlock()
	}
	return c.blame(err)
}

// blame counts the end of a connection.
func (c *conn) blame(err *ConnError) *ConnError {
	switch {
	case err == nil:
	case err.Code == h2.ErrCodeEnhanceYourCalm:
		c.srv.cfg.Count(Flood)
	default:
		c.srv.cfg.Count(Violation)
	}
	return err
}

// inOrder checks what a frame of any type may not do.
func (c *conn) inOrder(f frame) *ConnError {
	switch {
	case !c.in.settled && (f.kind != h2.FrameSettings || f.flags.Has(h2.FlagSettingsAck)):
		return violation(h2.ErrCodeProtocol, "the first frame is not SETTINGS")
	case c.opening.open && (f.kind != h2.FrameContinuation || f.id != c.opening.id):
		return violation(h2.ErrCodeProtocol, "a frame inside a field block")
	case !c.opening.open && f.kind == h2.FrameContinuation:
		return violation(h2.ErrCodeProtocol, "CONTINUATION without a field block")
	}
	c.in.settled = true
	switch f.kind {
	case h2.FrameData, h2.FrameHeaders, h2.FramePriority, h2.FrameRSTStream, h2.FrameContinuation:
		if f.id == 0 {
			return violation(h2.ErrCodeProtocol, f.kind.String()+" without a stream")
		}
	case h2.FrameSettings, h2.FramePing, h2.FrameGoAway:
		if f.id != 0 {
			return violation(h2.ErrCodeProtocol, f.kind.String()+" on a stream")
		}
	}
	return nil
}

// takeLocked acts on a frame that is no part of a field block.
func (c *conn) takeLocked(f frame) *ConnError {
	switch f.kind {
	case h2.FrameData:
		return c.takeData(f)
	case h2.FrameRSTStream:
		return c.takeReset(f)
	case h2.FrameWindowUpdate:
		return c.takeWindowUpdate(f)
	case h2.FrameSettings:
		return c.takeSettings(f)
	case h2.FramePing:
		return c.takePing(f)
	case h2.FrameGoAway:
		return c.takeGoAway(f)
	case h2.FramePushPromise:
		return violation(h2.ErrCodeProtocol, "PUSH_PROMISE from a client")
	case h2.FramePriority: // deprecated (RFC 9113 §5.3.2)
		if len(f.payload) != 5 && c.open(f.id) != nil {
			return c.misuse(f.id, h2.ErrCodeFrameSize, "PRIORITY of the wrong length")
		}
	}
	return c.idleFrame(1)
}

// idleFrame charges for a frame that carries nothing.
func (c *conn) idleFrame(n int) *ConnError {
	if c.frames.spend(n) {
		return nil
	}
	return violation(h2.ErrCodeEnhanceYourCalm, "too many frames that carry nothing")
}

// cutStream charges for a stream that ended by a reset.
func (c *conn) cutStream() *ConnError {
	if c.cuts.spend(1) {
		return nil
	}
	return violation(h2.ErrCodeEnhanceYourCalm, "too many streams reset")
}

// misuse answers a broken rule on one stream, which need not be open.
func (c *conn) misuse(id uint32, code h2.ErrCode, reason string) *ConnError {
	c.srv.cfg.Count(Misuse)
	c.urgent = true
	if s := c.open(id); s == nil {
		c.out = appendReset(c.openOut(), id, code)
		c.closed.add(id, true)
	} else {
		s.resetLocked(&StreamError{Code: code, Reason: reason})
	}
	return c.cutStream()
}

// known returns the stream of a frame, nil if it is over, and an error if it
// has not been opened.
func (c *conn) known(f frame) (*Stream, *ConnError) {
	if f.id > c.lastID || f.id%2 == 0 {
		return nil, violation(h2.ErrCodeProtocol, f.kind.String()+" on a stream that is not open")
	}
	return c.open(f.id), nil
}

func (c *conn) takeReset(f frame) *ConnError {
	if len(f.payload) != 4 {
		return violation(h2.ErrCodeFrameSize, "RST_STREAM of the wrong length")
	}
	s, err := c.known(f)
	if s == nil || s.err != nil {
		if err == nil {
			err = c.idleFrame(1)
		}
		return err
	}
	answered := s.headSent
	s.cut = true
	c.srv.cfg.Count(ClientReset)
	s.failLocked(&StreamError{Code: h2.ErrCode(binary.BigEndian.Uint32(f.payload)), Client: true})
	if answered { // as it asked for: nothing was had for nothing
		return c.idleFrame(1)
	}
	return c.cutStream()
}

func (c *conn) takeWindowUpdate(f frame) *ConnError {
	if len(f.payload) != 4 {
		return violation(h2.ErrCodeFrameSize, "WINDOW_UPDATE of the wrong length")
	}
	n := int(binary.BigEndian.Uint32(f.payload) & maxWindow)
	if f.id == 0 {
		switch c.sendRoom += n; {
		case n == 0:
			return violation(h2.ErrCodeProtocol, "WINDOW_UPDATE of zero")
		case c.sendRoom > maxWindow:
			return violation(h2.ErrCodeFlowControl, "the connection's window is over 2^31-1")
		}
		c.grantLocked()
		return c.idleFrame(1)
	}
	s, err := c.known(f)
	if err != nil {
		return err
	}
	if s != nil && s.err == nil {
		switch s.sendRoom += n; {
		case n == 0:
			return c.misuse(f.id, h2.ErrCodeProtocol, "WINDOW_UPDATE of zero")
		case s.sendRoom > maxWindow:
			return c.misuse(f.id, h2.ErrCodeFlowControl, "the stream's window is over 2^31-1")
		}
		s.moreRoom()
	}
	return c.idleFrame(1)
}

func (c *conn) takePing(f frame) *ConnError {
	if len(f.payload) != 8 {
		return violation(h2.ErrCodeFrameSize, "PING of the wrong length")
	}
	c.urgent = true
	if !f.flags.Has(h2.FlagPingAck) {
		c.out = appendPing(c.openOut(), h2.FlagPingAck, f.payload)
	} else if [8]byte(f.payload) == drainPing {
		c.drained()
	}
	return c.idleFrame(1)
}

func (c *conn) takeGoAway(f frame) *ConnError {
	if len(f.payload) < 8 {
		return violation(h2.ErrCodeFrameSize, "GOAWAY of the wrong length")
	}
	c.draining = true
	if len(c.streams) == 0 {
		c.stopLocked(errDone)
	}
	return c.idleFrame(1)
}

func (c *conn) takeSettings(f frame) *ConnError {
	if f.flags.Has(h2.FlagSettingsAck) {
		if len(f.payload) > 0 {
			return violation(h2.ErrCodeFrameSize, "SETTINGS acknowledgement with settings")
		}
		c.acked = true
		return c.idleFrame(1)
	}
	if len(f.payload)%6 != 0 {
		return violation(h2.ErrCodeFrameSize, "SETTINGS of the wrong length")
	}
	if err := c.idleFrame(1 + len(f.payload)/6); err != nil {
		return err
	}
	for p := f.payload; len(p) > 0; p = p[6:] {
		s := h2.Setting{ID: h2.SettingID(binary.BigEndian.Uint16(p)), Val: binary.BigEndian.Uint32(p[2:])}
		if err := c.set(s); err != nil {
			return err
		}
	}
	c.out = appendHead(c.openOut(), 0, h2.FrameSettings, h2.FlagSettingsAck, 0)
	c.urgent = true
	return nil
}

// set acts on one of the client's settings (RFC 9113 §6.5.2). The size of its
// table is of no interest to an encoder without one, nor its list limit.
func (c *conn) set(s h2.Setting) *ConnError {
	switch s.ID {
	case h2.SettingInitialWindowSize:
		if s.Val > maxWindow {
			return violation(h2.ErrCodeFlowControl, "an initial window over 2^31-1")
		}
		return c.setWindow(int(s.Val))
	case h2.SettingMaxFrameSize:
		if s.Val < maxFrame || s.Val >= 1<<24 {
			return violation(h2.ErrCodeProtocol, "a frame size out of bounds")
		}
	case h2.SettingEnablePush, h2.SettingEnableConnectProtocol, settingNoPriorities:
		if s.Val > 1 {
			return violation(h2.ErrCodeProtocol, s.ID.String()+" that is neither 0 nor 1")
		}
	}
	return nil
}

// setWindow changes the client's windows of all streams (RFC 9113 §6.9.2).
func (c *conn) setWindow(n int) *ConnError {
	more := n - c.clientWindow
	c.clientWindow = n
	for _, s := range c.streams {
		if s.sendRoom += more; s.sendRoom > maxWindow {
			return violation(h2.ErrCodeFlowControl, "a stream's window is over 2^31-1")
		}
		s.moreRoom()
	}
	return nil
}
