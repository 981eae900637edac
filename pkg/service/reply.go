package service

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"
)

// Envelope is the shape of every answer of a node's own.
type Envelope struct {
	Code   int    `json:"code"`           // 0 when all is well, else what the program calls its error
	Msg    string `json:"msg"`            // for people: "success", or what went wrong
	Data   any    `json:"data,omitempty"` // what was asked for
	Status bool   `json:"status"`         // whether all is well
}

// success is an Envelope whose data is there even when it is null.
type success struct {
	Code   int    `json:"code"`
	Msg    string `json:"msg"`
	Data   any    `json:"data"`
	Status bool   `json:"status"`
}

// Success answers 200 with data: {"code":0,"msg":"success","data":…,"status":true}.
// Data that has no JSON form is a panic, which ends as 500.
func Success(c *gin.Context, data any) {
	c.Data(http.StatusOK, jsonType, encoded(success{Msg: "success", Data: data, Status: true}))
}

// Failure answers with an HTTP status and {"code":code,"msg":msg,"status":false},
// and runs no further handler. The message goes to the client: say nothing in it
// that he should not know.
func Failure(c *gin.Context, status, code int, msg string) {
	c.Abort()
	c.Data(status, jsonType, encoded(Envelope{Code: code, Msg: msg}))
}

const jsonType = "application/json; charset=utf-8"

// refuse is Failure without Gin, for what ends before a route is found. The code is
// the status.
func refuse(w http.ResponseWriter, status int, msg string) {
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(status)
	// A client that is gone need not be told.
	_, _ = w.Write(encoded(Envelope{Code: status, Msg: msg}))
}

// encoded is v as JSON in one line, with &, < and > as they are.
func encoded(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Errorf("encode answer: %w", err))
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
