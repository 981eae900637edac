package route

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
)

// digestLength is how many hexadecimal digits tell tables apart.
const digestLength = 16

// digest returns what tells one configuration of routes from another, whatever the order it was written in.
func digest(prefix string, services Services) string {
	text, err := json.Marshal(struct {
		Prefix   string
		Services Services
	}{prefix, services})
	if err != nil {
		panic("BUG: encode routes: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return fmt.Sprintf("%x", sum)[:digestLength]
}

// Digest returns 16 hexadecimal digits that two tables share when they were made from the same routes below the same
// prefix. It is for comparing what several gateways serve.
func (t *Table) Digest() string { return t.digest }
