"""An origin on Python's http.server: it reports each request it saw, to the client in X-Saw and to a log, one JSON
object a line. Arguments: port, log file."""
import http.client
import http.server
import itertools
import json
import sys
import threading

http.client._MAXHEADERS = 400
log = open(sys.argv[2], "a", buffering=1)
lock = threading.Lock()
numbers = itertools.count(1)


def say(what):
    with lock:
        log.write(json.dumps(what) + "\n")


class Cut(Exception):
    """The peer went away, or the body is broken."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def exactly(self, n):
        data = self.rfile.read(n)
        if len(data) != n:
            raise Cut
        return data

    def line(self):
        line = self.rfile.readline(65536)
        if not line.endswith(b"\r\n"):
            raise Cut
        return line[:-2]

    def length(self):
        if self.headers.get("Transfer-Encoding") is None:
            n = int(self.headers.get("Content-Length", "0"))
            self.exactly(n)
            return n
        total = 0
        while True:
            size = int(self.line().split(b";")[0], 16)
            if size == 0:
                while self.line():
                    pass
                return total
            self.exactly(size)
            if self.exactly(2) != b"\r\n":
                raise Cut
            total += size

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self):
        saw = {"seq": "python-%d" % next(numbers), "method": self.command, "target": self.path, "length": 0, "marker": self.headers.get("X-Marker", "").split(",")[0], "whole": False}
        if self.headers.get("Transfer-Encoding") and self.headers.get("Content-Length"):
            say({"refused": "both length and coding"})
        try:
            saw["length"] = self.length()
            saw["whole"] = True
        except (Cut, OSError):
            self.close_connection = True
        say(saw)
        if not saw["whole"]:
            return
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.send_header("X-Saw", saw["seq"] + " " + saw["method"])
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"ok\n")

    def send_error(self, code, message=None, explain=None):
        say({"refused": "%d %s" % (code, message)})
        super().send_error(code, message, explain)

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):
            say({"refused": repr(sys.exc_info()[1])})


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
