package cli

import (
	"bufio"
	"errors"
	"io"
)

// printText copies text to stdout, escaped if that is a terminal; with -o json
// it is the value of an object's one key.
func (a *app) printText(key string, text io.Reader) error {
	if a.json {
		whole, err := io.ReadAll(text)
		if err != nil {
			return err
		}
		return a.printJSON(map[string]string{key: string(whole)})
	}
	if !isTerminal(a.Stdout) {
		_, err := io.Copy(a.Stdout, text)
		return err
	}
	return copyEscaped(a.Stdout, text)
}

// copyEscaped copies in to out with control characters escaped, whole lines at
// a time where they are not huge, so that no character is cut in two.
func copyEscaped(out io.Writer, in io.Reader) error {
	reader := bufio.NewReaderSize(in, 64<<10)
	for {
		line, err := reader.ReadSlice('\n')
		if _, werr := io.WriteString(out, escapeLines(string(line))); werr != nil {
			return werr
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
