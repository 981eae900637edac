package config

import (
	"fmt"
	"strings"
)

// maxSecret bounds the file that holds a secret, in bytes.
const maxSecret = 64 << 10

// Secret returns value, or the content of file without the blanks and line ends
// around it: for a pair of keys like callServiceKey and callServiceKeyFile. what is
// the name of the first and begins an error; the second has "File" added. Both
// empty is the empty secret; both set is an error, as is an empty file. An error
// never contains the secret.
func Secret(value, file, what string) (string, error) {
	if file == "" {
		return value, nil
	}
	if value != "" {
		return "", fmt.Errorf("%s and %sFile are both set: keep one", what, what)
	}
	data, err := readLimited(file, maxSecret)
	if err != nil {
		return "", fmt.Errorf("read %sFile %q: %w", what, file, cause(err))
	}
	secret := strings.TrimSpace(string(data))
	if secret == "" {
		return "", fmt.Errorf("read %sFile %q: file is empty", what, file)
	}
	return secret, nil
}
