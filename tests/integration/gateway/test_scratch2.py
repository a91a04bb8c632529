"""scratch"""
from tests.fixtures.gateway import *
from tests.integration.gateway.wire import *
BAD = {
 "junk line": b"hello\r\n\r\n", "brew": b"BREW /v1/models HTTP/1.1\r\nHost: a\r\n\r\n", "tls": bytes.fromhex("16030100a1010000")+b"\0"*40,
 "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "longhdr": b"GET /v1/models HTTP/1.1\r\nHost: a\r\nX: "+b"a"*20000+b"\r\n\r\n",
 "longline": b"GET /"+b"a"*20000+b" HTTP/1.1\r\nHost: a\r\n\r\n", "manyhdr": b"GET / HTTP/1.1\r\nHost: a\r\n"+b"A: b\r\n"*40000+b"\r\n",
 "badhdr": b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization Bearer sk-tp-canary\r\n\r\n", "nul": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
 "twocl": b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "clte": b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
 "badcl": b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n", "badchunk": b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
 "version": b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", "nohost": b"GET /v1/models HTTP/1.1\r\n\r\n", "old": b"GET /v1/models HTTP/1.0\r\n\r\n",
 "abs": b"GET http://evil/v1/models HTTP/1.1\r\nHost: a\r\n\r\n", "badurl": b"GET http://[::1/ HTTP/1.1\r\nHost: a\r\n\r\n", "star": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
 "connect": b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n","upgrade": b"GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
 "expect": b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 0\r\n\r\n",
 "badgzip": b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Type: application/json\r\nAuthorization: Bearer KEY\r\nContent-Length: 5\r\n\r\nhello",
 "badchunk2": b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nAuthorization: Bearer KEY\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
}
async def test_one(open_site):
    site = await open_site()
    key = await site.key()
    for name, data in BAD.items():
        async with connected(site.gateway.port) as c:
            await c.send(data.replace(b"KEY", key.secret.encode()))
            try:
                async with asyncio.timeout(1):
                    got = await c.reader.read(2000)
            except TimeoutError:
                got = b"TIMEOUT"
            print("##", name, got[:700])
    for l in site.logged(): print(l)
