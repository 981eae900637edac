package http1_test

import (
	"fmt"

	"github.com/goms-io/goms/pkg/http1"
)

func Example() {
	var (
		scanner http1.Scanner
		request http1.Request
	)
	buf := []byte("POST /login?a=1 HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello")
	end, err := scanner.Scan(buf)
	if err == nil && end > 0 {
		err = request.Parse(buf, &scanner, http1.Limits{Head: 32 << 10, Lines: 100, Target: 8 << 10})
	}
	fmt.Printf("%s %s %s, body of %d: %s %v\n", request.Method, request.Path, request.Query, request.ContentLength, buf[end:], err)
	// Output: POST /login ?a=1, body of 5: hello <nil>
}
