#!/usr/bin/env python3
"""request.py METHOD PATH[?QUERY] [HEADER:VALUE...] - one signed request to S3_ENDPOINT, for setting up tests: the body comes
from stdin if BODY is set, the answer goes to stdout, the status to stderr; exit 0 for 2xx.

  S3_ENDPOINT S3_ACCESS_KEY S3_SECRET_KEY [S3_REGION] [S3_CA_FILE]
"""
import datetime
import hashlib
import hmac
import http.client
import os
import ssl
import sys
import urllib.parse

E = os.environ
ep = urllib.parse.urlsplit(E['S3_ENDPOINT'])
method, target = sys.argv[1:3]
path, _, query = target.partition('?')
query = '&'.join(sorted(p if '=' in p else p + '=' for p in query.split('&') if p))
body = sys.stdin.buffer.read() if E.get('BODY') else b''
stamp = datetime.datetime.now(datetime.timezone.utc).strftime('%Y%m%dT%H%M%SZ')
region = E.get('S3_REGION', 'us-east-1')
scope = f'{stamp[:8]}/{region}/s3/aws4_request'
payload = hashlib.sha256(body).hexdigest()
h = {'host': ep.netloc, 'x-amz-date': stamp, 'x-amz-content-sha256': payload}
for a in sys.argv[3:]:
    k, _, v = a.partition(':')
    h[k.lower()] = v.strip()
names = ';'.join(sorted(h))
canon = '\n'.join([method, path, query] + [f'{k}:{h[k]}' for k in sorted(h)] + ['', names, payload])
text = '\n'.join(['AWS4-HMAC-SHA256', stamp, scope, hashlib.sha256(canon.encode()).hexdigest()])
key = ('AWS4' + E['S3_SECRET_KEY']).encode()
for part in (stamp[:8], region, 's3', 'aws4_request'):
    key = hmac.new(key, part.encode(), hashlib.sha256).digest()
sig = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
h['authorization'] = f'AWS4-HMAC-SHA256 Credential={E["S3_ACCESS_KEY"]}/{scope}, SignedHeaders={names}, Signature={sig}'
if ep.scheme == 'https':
    c = http.client.HTTPSConnection(ep.hostname, ep.port, context=ssl.create_default_context(cafile=E.get('S3_CA_FILE')))
else:
    c = http.client.HTTPConnection(ep.hostname, ep.port)
c.request(method, path + ('?' + query if query else ''), body, h)
r = c.getresponse()
sys.stdout.buffer.write(r.read())
print(r.status, file=sys.stderr)
sys.exit(r.status // 100 != 2)
