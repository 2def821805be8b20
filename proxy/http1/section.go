package http1

import (
	"bytes"
	"iter"
)

// A Kind tells fields apart that concern framing or the connection. All others
// are Ordinary.
type Kind uint8

// The kinds of fields.
const (
	Ordinary Kind = iota
	Host
	ContentLength
	TransferEncoding
	Connection
	KeepAlive
	ProxyConnection
	TE
	Trailer
	Upgrade
	Expect
	ProxyAuthenticate
	ProxyAuthorization
	HTTP2Settings
)

// KindOf returns the kind of the field with a name, in any case.
func KindOf(name []byte) Kind {
	switch len(name) {
	case 2:
		return kindIf(name, "te", TE)
	case 4:
		return kindIf(name, "host", Host)
	case 6:
		return kindIf(name, "expect", Expect)
	case 7:
		if name[0]|0x20 == 't' {
			return kindIf(name, "trailer", Trailer)
		}
		return kindIf(name, "upgrade", Upgrade)
	case 10:
		if name[0]|0x20 == 'c' {
			return kindIf(name, "connection", Connection)
		}
		return kindIf(name, "keep-alive", KeepAlive)
	case 14:
		if name[0]|0x20 == 'c' {
			return kindIf(name, "content-length", ContentLength)
		}
		return kindIf(name, "http2-settings", HTTP2Settings)
	case 16:
		return kindIf(name, "proxy-connection", ProxyConnection)
	case 17:
		return kindIf(name, "transfer-encoding", TransferEncoding)
	case 18:
		return kindIf(name, "proxy-authenticate", ProxyAuthenticate)
	case 19:
		return kindIf(name, "proxy-authorization", ProxyAuthorization)
	}
	return Ordinary
}

func kindIf(name []byte, want string, k Kind) Kind {
	if EqualFold(name, want) {
		return k
	}
	return Ordinary
}

// A Field is one field line, as offsets into its section's buffer. The name is
// a token; the value has no white space around it and may be empty.
type Field struct {
	Name, Value Span
	Kind        Kind
}

// A Section is a list of fields in the order they came. The zero value is
// empty. Its memory is used again and again: see Reset.
type Section struct {
	Buf    []byte // what the offsets point into
	Fields []Field

	end    int  // of the last line in Buf
	parsed bool // Buf is what a parser was given
}

// Reset empties the section and keeps its memory, but not the buffer that it
// was parsed from.
func (s *Section) Reset() {
	if s.parsed {
		s.Buf, s.parsed = nil, false
	}
	s.Buf, s.Fields, s.end = s.Buf[:0], s.Fields[:0], 0
}

// Name returns the name of a field of the section, as it was spelled.
func (s *Section) Name(f Field) []byte { return s.Buf[f.Name.From:f.Name.To] }

// Value returns the value of a field of the section.
func (s *Section) Value(f Field) []byte { return s.Buf[f.Value.From:f.Value.To] }

// Append adds a field that did not come from a parser, valid in both parts. It
// writes its line into the section's own buffer, so a section is either parsed
// or appended to.
func (s *Section) Append(name, value string) {
	from, middle := len(s.Buf), len(s.Buf)+len(name)
	s.Buf = append(append(append(s.Buf, name...), ": "...), value...)
	s.note(from, middle)
}

// Add is Append for octets that are those of another section.
func (s *Section) Add(name, value []byte) {
	from, middle := len(s.Buf), len(s.Buf)+len(name)
	s.Buf = append(append(append(s.Buf, name...), ": "...), value...)
	s.note(from, middle)
}

// note notes the field whose line was begun at from.
func (s *Section) note(from, middle int) {
	s.Fields = append(s.Fields, Field{
		Name: span(from, middle), Value: span(middle+2, len(s.Buf)), Kind: KindOf(s.Buf[from:middle]),
	})
	s.Buf = append(s.Buf, "\r\n"...)
	s.end = len(s.Buf)
}

// Find returns the value of the first field with a name in lower case.
func (s *Section) Find(name string) ([]byte, bool) {
	for _, f := range s.Fields {
		if f.Name.Len() == len(name) && EqualFold(s.Name(f), name) {
			return s.Value(f), true
		}
	}
	return nil, false
}

// All returns the values of the fields with a name in lower case.
func (s *Section) All(name string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, f := range s.Fields {
			if EqualFold(s.Name(f), name) && !yield(s.Value(f)) {
				return
			}
		}
	}
}

// lines is how far the lines of a head have been read.
type lines struct {
	pos  int // where the next line begins
	seen int // octets of that line that are known to hold no line feed
}

// next returns the next line, without its end, as offsets; ok is false if it
// has not come as a whole.
func (l *lines) next(b []byte) (from, to int, ok bool, err error) {
	i := bytes.IndexByte(b[l.pos+l.seen:], '\n')
	if i < 0 {
		l.seen = len(b) - l.pos
		return 0, 0, false, nil
	}
	from, to = l.pos, l.pos+l.seen+i
	if to == from || b[to-1] != '\r' {
		return 0, 0, false, ErrLineEnd
	}
	l.pos, l.seen = to+1, 0
	return from, to - 1, true, nil
}

// from makes b what offsets point into.
func (s *Section) from(b []byte) { s.Buf, s.end, s.parsed = b, len(b), true }

// parse reads field lines up to the empty one that ends the section. It is
// called again with more octets until done.
func (s *Section) parse(b []byte, l *lines) (done bool, err error) {
	s.from(b)
	for {
		from, to, ok, err := l.next(b)
		if !ok || err != nil {
			return false, err
		}
		if from == to {
			s.end = from
			return true, nil
		}
		if len(s.Fields) == maxFields {
			return false, ErrTooManyFields
		}
		f, err := parseField(b, from, to)
		if err != nil {
			return false, err
		}
		s.Fields = append(s.Fields, f)
	}
}

// parseField reads the line b[from:to], which is not empty (RFC 9112 §5).
func parseField(b []byte, from, to int) (Field, error) {
	i := from
	for i < to && octetClass[b[i]]&classToken != 0 {
		i++
	}
	if i == from && (b[i] == ' ' || b[i] == '\t') {
		return Field{}, ErrFolded
	}
	if i == from || i == to || b[i] != ':' {
		return Field{}, ErrFieldName
	}
	begin, end := trim(b, i+1, to)
	if !isText(b[begin:end]) {
		return Field{}, ErrFieldValue
	}
	return Field{Name: span(from, i), Value: span(begin, end), Kind: KindOf(b[from:i])}, nil
}

// AppendLines appends the field lines from the ith up to the jth, each with its
// end, as they were parsed or appended.
func (s *Section) AppendLines(dst []byte, i, j int) []byte {
	if i >= j {
		return dst
	}
	to := s.end
	if j < len(s.Fields) {
		to = int(s.Fields[j].Name.From)
	}
	return append(dst, s.Buf[s.Fields[i].Name.From:to]...)
}
