"""What the scripts of these tests do with their secret, which is in TOKEN."""

from __future__ import annotations

import hashlib

#: Prints it in every encoding that is masked; those of base64 and hex also in lines.
TELL = r"""
for shift in '' x xy; do
    printf "$shift%s" "$TOKEN" | base64 -w 0; echo
    printf "$shift%s" "$TOKEN" | base64 -w 0 | tr +/ -_; echo
    printf '%60s%s%50s' "$shift" "$TOKEN" end | base64
done
echo "$TOKEN"; echo "$TOKEN" >&2
printf %s "$TOKEN" | od -An -v -tx1 | tr -d ' \n' | fold -w 60; echo
printf %s "$TOKEN" | od -An -v -tx1 | tr -d ' \n' | tr a-f A-F; echo
python3 -c '
import json, os, sys
from urllib.parse import quote, quote_plus
token = os.environ["TOKEN"]
print(quote(token), quote(token, safe=""), quote_plus(token), json.dumps(token), json.dumps({token: [token]}))
sys.stdout.buffer.write(json.dumps(token, ensure_ascii=False).encode())
'
printf %s "${TOKEN:0:7}"; sleep 0.3; printf '%s\n' "${TOKEN:7}"
"""
#: How many lines or words of that are masks.
MASKS = 21
#: Proves that it got the secret, without saying it.
PROVE = 'printf %s "$TOKEN" | sha256sum | cut -c 1-64\n'


def proof(canary: str) -> str:
    """Return what `PROVE` prints."""
    return hashlib.sha256(canary.encode()).hexdigest() + "\n"
