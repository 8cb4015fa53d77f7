#!/usr/bin/env python3
"""fixture.py - an S3 server that is as strict as the documentation and as bad as it is told to be.

  fixture.py [--ipv6] [--port N] [--tls CERT KEY]   prints "PORT" and serves 127.0.0.1 (::1) until its stdin ends

Objects are in memory.  Signatures, dates, regions, payload hashes, Content-MD5 and x-amz-checksum-sha256 are verified.  It
also is an instance's metadata service (/latest/...), a container's endpoint (/container), and STS (POST /sts); and a proxy
to itself: whatever host is asked for, it answers.

  POST /_fixture/rules   [{"match": REGEX of "METHOD path?query", "times": N, ...what to do...}], replaces those before
      status, code, retry_after, headers, body     answer that, without doing it; with "after": having done it
      drop         close the connection, before or "after" doing it
      truncate     send so many bytes of the answer, then close
      endless      a body without end;  stall: wait so many seconds first;  flip: change a byte of the body
  POST /_fixture/set     {"skew": seconds, "region": name, "conditional": "yes"|"ignore"|"none", "lifetime": seconds,
                          "parallel": N (503 above), "checksums": false (501)}
  POST /_fixture/peek    {"requests": ["METHOD path?query STATUS", ...], "most": N at once, "uploads": N open}
  POST /_fixture/log     the same, and forgets them;  /_fixture/clear: objects, rules, log
"""
import base64
import datetime
import email.utils
import hashlib
import hmac
import http.server
import json
import re
import socket
import ssl
import sys
import threading
import time
import urllib.parse

NS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


class Refused(Exception):
    def __init__(self, status, code, message='', extra='', headers=None):
        self.status, self.code, self.message, self.extra, self.headers = status, code, message, extra, headers or {}


class World:
    def __init__(self):
        self.lock = threading.RLock()
        self.buckets = {'bucket': {}}           # name -> key -> (bytes, time, headers)
        self.keys = {'FIXTUREKEY': ('fixture/secret+key', None, None)}  # access -> secret, token, end
        self.uploads = {}
        self.rules, self.log = [], []
        self.skew, self.region, self.conditional, self.lifetime = 0, 'us-east-1', 'yes', 3600
        self.parallel, self.running, self.most, self.checksums = 0, 0, 0, True
        self.roles, self.page = 0, 1000

    def now(self):
        return time.time() + self.skew

    def new_role(self):
        with self.lock:
            self.roles += 1
            access, secret, token = f'ASIAROLE{self.roles}', f'role/secret{self.roles}', f'tok+en/{self.roles}=='
            end = time.time() + self.lifetime
            self.keys[access] = (secret, token, end)
        return access, secret, token, datetime.datetime.fromtimestamp(int(end), datetime.timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ')


W = World()


def enc(s):
    return urllib.parse.quote(s, safe='-_.~')


def xml_text(s):
    return s.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    timeout = 60

    def log_message(self, *a):
        pass

    def date_time_string(self, timestamp=None):
        return email.utils.formatdate(W.now() if timestamp is None else timestamp, usegmt=True)

    def handle_expect_100(self):
        self.send_response_only(100)
        self.end_headers()
        self.wfile.flush()
        return True

    # --- answers --------------------------------------------------------------------------------------------------------
    def note(self, status):     # before the answer goes out: whoever has it finds it in the log
        if not self.path.startswith('/_fixture/'):
            with W.lock:
                W.log.append(f'{self.command} {self.path} {status}')

    def answer(self, status, body=b'', headers=None, truncate=None):
        self.note(status)
        self.send_response(status)
        if not (headers or {}).get('x-none'):   # what answers in the place of S3 has no such header
            self.send_header('x-amz-request-id', 'fixture')
        for k, v in (headers or {}).items():
            self.send_header(k, v)
        if 'Content-Length' not in (headers or {}) and status != 204:
            self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.flush()
        if self.command != 'HEAD':
            self.connection.sendall(body if truncate is None else body[:truncate])
        if truncate is not None:
            self.close_connection = True

    def error(self, status, code, message='', extra='', headers=None):
        body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{xml_text(message)}</Message>{extra}</Error>'.encode()
        self.answer(status, body, headers)

    def hang_up(self):
        self.note(0)
        self.close_connection = True

    # --- who asks -------------------------------------------------------------------------------------------------------
    def verify(self, body):
        auth = self.headers.get('Authorization', '')
        m = re.fullmatch(r'AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, SignedHeaders=([a-z0-9;-]+), '
                         r'Signature=([0-9a-f]{64})', auth)
        if not m:
            raise Refused(403, 'AccessDenied', 'no or malformed signature')
        access, day, region, signed, signature = m.groups()
        if access not in W.keys:
            raise Refused(403, 'InvalidAccessKeyId', 'unknown access key')
        secret, token, end = W.keys[access]
        if token and self.headers.get('x-amz-security-token') != token:
            raise Refused(400, 'InvalidToken', 'the token is not valid')
        if end and W.now() > end:
            raise Refused(400, 'ExpiredToken', 'the token has expired')
        if region != W.region:
            raise Refused(400, 'AuthorizationHeaderMalformed', f'the region is {W.region}', f'<Region>{W.region}</Region>',
                          {'x-amz-bucket-region': W.region})
        signed = signed.split(';')
        need = {'host', 'x-amz-date', 'x-amz-content-sha256'} | {k.lower() for k in self.headers if k.lower().startswith('x-amz-')}
        if not need <= set(signed) or signed != sorted(signed):
            raise Refused(403, 'AccessDenied', 'headers that must be signed are not')
        stamp, payload = self.headers['x-amz-date'], self.headers['x-amz-content-sha256']
        when = datetime.datetime.strptime(stamp, '%Y%m%dT%H%M%SZ').replace(tzinfo=datetime.timezone.utc).timestamp()
        if abs(when - W.now()) > 900:
            raise Refused(403, 'RequestTimeTooSkewed', 'the difference between the request time and the current time is too large')
        path, _, query = self.path.partition('?')
        if query.split('&') != sorted(query.split('&')):
            raise Refused(403, 'SignatureDoesNotMatch', 'the query is not in order')
        canon = '\n'.join([self.command, path, query] +
                          [f'{k}:{" ".join(",".join(self.headers.get_all(k) or []).split())}' for k in signed] +
                          ['', ';'.join(signed), payload])
        scope = f'{day}/{region}/s3/aws4_request'
        text = '\n'.join(['AWS4-HMAC-SHA256', stamp, scope, hashlib.sha256(canon.encode()).hexdigest()])
        k = ('AWS4' + secret).encode()
        for part in (day, region, 's3', 'aws4_request'):
            k = hmac.new(k, part.encode(), hashlib.sha256).digest()
        if hmac.new(k, text.encode(), hashlib.sha256).hexdigest() != signature or day != stamp[:8]:
            raise Refused(403, 'SignatureDoesNotMatch', 'The request signature we calculated does not match')
        if hashlib.sha256(body).hexdigest() != payload:
            raise Refused(400, 'XAmzContentSHA256Mismatch', 'the body is not what was signed')
        md5 = self.headers.get('Content-MD5')
        if md5 and base64.b64decode(md5) != hashlib.md5(body).digest():
            raise Refused(400, 'BadDigest', 'the Content-MD5 you specified did not match')
        sha = self.headers.get('x-amz-checksum-sha256')
        if sha and not W.checksums:
            raise Refused(501, 'NotImplemented', 'no checksums here')
        if sha and base64.b64decode(sha) != hashlib.sha256(body).digest():
            raise Refused(400, 'BadDigest', 'the checksum did not match')

    # --- what is asked --------------------------------------------------------------------------------------------------
    def split(self):
        path, _, query = self.path.partition('?')
        host = self.headers.get('Host', '')
        path = urllib.parse.unquote(path)[1:]
        m = re.fullmatch(r'([a-z0-9.-]+)\.localhost(:\d+)?', host)
        bucket, key = (m.group(1), path) if m else path.partition('/')[::2]
        return bucket, key, dict(urllib.parse.parse_qsl(query, keep_blank_values=True))

    def operate(self, body):
        bucket, key, q = self.split()
        if bucket not in W.buckets:
            raise Refused(404, 'NoSuchBucket', 'the bucket does not exist')
        objects = W.buckets[bucket]
        if not key:
            if self.command == 'GET' and q.get('list-type') == '2':
                return self.list(bucket, objects, q)
            if self.command == 'POST' and 'delete' in q:
                return self.delete_many(objects, body)
            if self.command == 'HEAD':
                return 200, b'', {}
            raise Refused(405, 'MethodNotAllowed')
        if self.command == 'POST' and 'uploads' in q:
            upload = f'up/load+{len(W.uploads)}=='
            W.uploads[upload] = {'key': key, 'parts': {}, 'headers': self.meta()}
            return 200, f'<InitiateMultipartUploadResult {NS}><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>'.encode(), {}
        if 'uploadId' in q:
            return self.upload(objects, key, q, body)
        if self.command == 'PUT':
            return self.put(objects, key, body)
        if self.command == 'DELETE':
            objects.pop(key, None)
            return 204, b'', {}
        if key not in objects:
            raise Refused(404, 'NoSuchKey', 'the key does not exist')
        return self.get(*objects[key])

    def meta(self):
        return {k.lower(): v for k, v in self.headers.items() if k.lower().startswith('x-amz-meta-')}

    def put(self, objects, key, body):
        if self.headers.get('If-None-Match') == '*' and W.conditional != 'ignore':
            if W.conditional == 'none':
                raise Refused(501, 'NotImplemented', 'no conditional writes here')
            if key in objects:
                raise Refused(412, 'PreconditionFailed', 'the object is there')
        objects[key] = (body, W.now(), self.meta())
        return 200, b'', {'ETag': '"' + hashlib.md5(body).hexdigest() + '"'}

    def get(self, body, when, meta):
        headers = dict(meta)
        headers.update({'ETag': '"' + hashlib.md5(body).hexdigest() + '"', 'Last-Modified': email.utils.formatdate(when, usegmt=True)})
        m = re.fullmatch(r'bytes=(\d+)-(\d+)', self.headers.get('Range', ''))
        if self.command == 'HEAD':
            headers['Content-Length'] = str(len(body))
            return 200, b'', headers
        if not m:
            return 200, body, headers
        a, b = int(m.group(1)), min(int(m.group(2)), len(body) - 1)
        if a >= len(body):
            raise Refused(416, 'InvalidRange', 'beyond the end', '', {'Content-Range': f'bytes */{len(body)}'})
        headers['Content-Range'] = f'bytes {a}-{b}/{len(body)}'
        return 206, body[a:b + 1], headers

    def list(self, bucket, objects, q):
        prefix, most = q.get('prefix', ''), min(int(q.get('max-keys', '1000')), W.page)
        after = base64.b64decode(q['continuation-token']).decode() if 'continuation-token' in q else ''
        with W.lock:
            names = sorted(k for k in objects if k.startswith(prefix) and k > after)
            rows = [(k, len(objects[k][0]), objects[k][1]) for k in names[:most]]
        more = len(names) > most
        out = [f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult {NS}><Name>{bucket}</Name><Prefix>{enc(prefix)}</Prefix>'
               f'<EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>']
        if more:
            out.append(f'<NextContinuationToken>{base64.b64encode(rows[-1][0].encode()).decode()}</NextContinuationToken>')
        for k, size, when in rows:
            t = datetime.datetime.fromtimestamp(when, datetime.timezone.utc).strftime('%Y-%m-%dT%H:%M:%S.000Z')
            out.append(f'<Contents><Key>{enc(k)}</Key><LastModified>{t}</LastModified><Size>{size}</Size></Contents>')
        return 200, ''.join(out + ['</ListBucketResult>']).encode(), {'Content-Type': 'application/xml'}

    def delete_many(self, objects, body):
        if not self.headers.get('Content-MD5'):
            raise Refused(400, 'InvalidRequest', 'Missing required header: Content-MD5')
        keys = re.findall(r'<Key>([^<]*)</Key>', body.decode())
        if len(keys) > 1000:
            raise Refused(400, 'MalformedXML', 'more than 1000')
        out = []
        for k in keys:
            k = k.replace('&lt;', '<').replace('&gt;', '>').replace('&amp;', '&')
            if 'locked' in k:
                out.append(f'<Error><Key>{xml_text(k)}</Key><Code>AccessDenied</Code><Message>no</Message></Error>')
            else:
                objects.pop(k, None)
        return 200, f'<DeleteResult {NS}>{"".join(out)}</DeleteResult>'.encode(), {}

    def upload(self, objects, key, q, body):
        up = W.uploads.get(q['uploadId'])
        if not up or up['key'] != key:
            raise Refused(404, 'NoSuchUpload', 'no such upload')
        if self.command == 'PUT':
            tag = '"' + hashlib.md5(body).hexdigest() + '"'
            up['parts'][int(q['partNumber'])] = (tag, body)
            return 200, b'', {'ETag': tag}
        del W.uploads[q['uploadId']]
        if self.command == 'DELETE':
            return 204, b'', {}
        wanted = re.findall(r'<PartNumber>(\d+)</PartNumber><ETag>([^<]*)</ETag>', body.decode())
        if not wanted or any(up['parts'].get(int(n), ('', b''))[0] != tag for n, tag in wanted):
            raise Refused(400, 'InvalidPart', 'a part is not what was uploaded')
        if any(len(up['parts'][int(n)][1]) < 5 << 20 for n, _ in wanted[:-1]):
            raise Refused(400, 'EntityTooSmall', 'a part is too small')
        objects[key] = (b''.join(up['parts'][int(n)][1] for n, _ in wanted), W.now(), up['headers'])
        return 200, f'<CompleteMultipartUploadResult {NS}><ETag>x</ETag></CompleteMultipartUploadResult>'.encode(), {}

    # --- who hands out credentials --------------------------------------------------------------------------------------
    def credentials(self, body):
        path = self.path
        if path == '/latest/api/token' and self.command == 'PUT':
            if not self.headers.get('X-aws-ec2-metadata-token-ttl-seconds'):
                raise Refused(400, 'BadRequest')
            return 200, b'imds-token', {}
        if path.startswith('/latest/meta-data/iam/security-credentials/'):
            if self.headers.get('X-aws-ec2-metadata-token') != 'imds-token':
                raise Refused(401, 'Unauthorized')
            if path.endswith('/'):
                return 200, b'backup-role\n', {}
        elif path == '/container':
            if self.headers.get('Authorization') != 'container-token':
                raise Refused(401, 'Unauthorized')
        elif path == '/sts' and self.command == 'POST':
            form = dict(urllib.parse.parse_qsl(body.decode()))
            if form.get('Action') != 'AssumeRoleWithWebIdentity' or form.get('WebIdentityToken') != 'web+identity/token=' or \
                    form.get('RoleArn') != 'arn:aws:iam::1:role/backup' or not form.get('RoleSessionName'):
                raise Refused(400, 'InvalidIdentityToken', 'no')
            a, s, t, end = W.new_role()
            return 200, (f'<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
                         f'<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{a}</AccessKeyId><SecretAccessKey>{s}'
                         f'</SecretAccessKey><SessionToken>{t}</SessionToken><Expiration>{end}</Expiration></Credentials>'
                         f'</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>').encode(), {}
        else:
            return None
        a, s, t, end = W.new_role()
        return 200, json.dumps({'Code': 'Success', 'AccessKeyId': a, 'SecretAccessKey': s, 'Token': t, 'Expiration': end}).encode(), {}

    # --- control --------------------------------------------------------------------------------------------------------
    def control(self, body):
        with W.lock:
            if self.path == '/_fixture/rules':
                W.rules = json.loads(body)
            elif self.path == '/_fixture/set':
                for k, v in json.loads(body).items():
                    setattr(W, k, v)
            elif self.path == '/_fixture/clear':
                for objects in W.buckets.values():
                    objects.clear()
                W.rules, W.log, W.uploads = [], [], {}
            elif self.path in ('/_fixture/log', '/_fixture/peek'):
                out = json.dumps({'requests': W.log, 'most': W.most, 'uploads': len(W.uploads)}).encode()
                if self.path == '/_fixture/log':
                    W.log, W.most = [], 0
                return self.answer(200, out)
        self.answer(200)

    def rule(self):
        with W.lock:
            for r in W.rules:
                if r.get('times', 1) != 0 and re.search(r['match'], f'{self.command} {self.path}'):
                    r['times'] = r.get('times', 1) - 1
                    return r
        return {}

    def serve(self):
        length = int(self.headers.get('Content-Length', 0))
        body = self.rfile.read(length) if length else b''
        if len(body) != length:
            return self.hang_up()
        if self.path.startswith('/_fixture/'):
            return self.control(body)
        if self.path.startswith('http://'):     # as a proxy is asked
            with W.lock:
                W.log.append('PROXY ' + self.path)
            self.path = '/' + self.path.split('/', 3)[3]
        with W.lock:
            W.running += 1
            W.most = max(W.most, W.running)
            crowded = W.parallel and W.running > W.parallel
        try:
            if crowded:
                time.sleep(0.02)
                self.error(503, 'SlowDown', 'Please reduce your request rate.')
            else:
                self.act(body)
        finally:
            with W.lock:
                W.running -= 1

    def act(self, body):
        r = self.rule()
        if 'stall' in r:
            time.sleep(r['stall'])
        if not r.get('after'):
            if r.get('drop'):
                return self.hang_up()
            if 'status' in r:
                return self.scripted(r)
        try:
            out = self.credentials(body)
            if out is None:
                self.verify(body)
                with W.lock:
                    out = self.operate(body)
        except Refused as e:
            return self.error(e.status, e.code, e.message, e.extra, e.headers)
        if r.get('after'):
            return self.hang_up() if r.get('drop') else self.scripted(r)
        status, data, headers = out
        if r.get('flip') and data:
            data = bytes([data[0] ^ 1]) + data[1:]
        if r.get('endless'):
            return self.endless()
        self.answer(status, data, headers, r.get('truncate'))

    def scripted(self, r):
        headers = dict(r.get('headers', {}))
        if 'retry_after' in r:
            headers['Retry-After'] = str(r['retry_after'])
        if 'body' in r:
            headers.setdefault('x-none', 'these are not the words of S3')
            self.answer(r['status'], r['body'].encode(), headers)
        else:
            self.error(r['status'], r.get('code', 'InternalError'), r.get('message', ''), r.get('extra', ''), headers)

    def endless(self):
        self.note(200)
        self.send_response(200)
        self.send_header('Transfer-Encoding', 'chunked')
        self.end_headers()
        chunk = b'10000\r\n' + b'x' * 65536 + b'\r\n'
        for _ in range(16384):      # 1 GiB: nobody takes that much
            self.wfile.write(chunk)
        self.close_connection = True

    def safely(self):
        try:
            self.serve()
        except (ConnectionError, TimeoutError, ssl.SSLError):
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = safely


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (ConnectionError, ssl.SSLError, TimeoutError)):
            super().handle_error(request, client_address)


def main():
    args = sys.argv[1:]
    port = int(args[args.index('--port') + 1]) if '--port' in args else 0
    if '--ipv6' in args:
        Server.address_family = socket.AF_INET6
    server = Server(('::1' if '--ipv6' in args else '127.0.0.1', port), Handler)
    if '--tls' in args:
        at = args.index('--tls')
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(args[at + 1], args[at + 2])
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print(server.server_address[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


main()
