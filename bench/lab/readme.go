package lab

import (
	"fmt"
	"os"
	"strings"
)

// WriteSection replaces what stands in a Markdown file between the lines
// "<!-- begin NAME -->" and "<!-- end NAME -->".
func WriteSection(file, name, text string) error {
	whole, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	begin, end := fmt.Sprintf("<!-- begin %s -->\n", name), fmt.Sprintf("<!-- end %s -->", name)
	before, rest, ok := strings.Cut(string(whole), begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return fmt.Errorf("%s has no section between %q and %q: add both lines where the table shall stand", file, strings.TrimSpace(begin), end)
	}
	return os.WriteFile(file, []byte(before+begin+"\n"+strings.TrimSpace(text)+"\n\n"+end+after), 0o644)
}
