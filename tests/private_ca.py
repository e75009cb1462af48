"""A server's certificate by an authority that only this project has, as companies have their own."""

import ssl
from pathlib import Path

# For localhost and 127.0.0.1, until 2126; the authority's key is thrown away.
AUTHORITY = (
    "MIIBkDCCATWgAwIBAgIUZzNYPLp6o4b+4oaePaZ/u6KMQDAwCgYIKoZIzj0EAwIwFDESMBAGA1UEAwwJQSBjb21wYW55MCAXDTI2MTEy"
    "NzA1MDgyOFoYDzIxMjYxMTAzMDUwODI4WjAUMRIwEAYDVQQDDAlBIGNvbXBhbnkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATsXSHM"
    "Z5NGPbMrnP6MKZkv3L2JAEDPos65ytF7iNI5Piz8BdbAWs8ySPeineIR6hxuLbjnZIdRk5L+qT2XpIEEo2MwYTAdBgNVHQ4EFgQUC8Mw"
    "yhICnwqLEBteaXI6i2Tpg4EwHwYDVR0jBBgwFoAUC8MwyhICnwqLEBteaXI6i2Tpg4EwDwYDVR0TAQH/BAUwAwEB/zAOBgNVHQ8BAf8E"
    "BAMCAQYwCgYIKoZIzj0EAwIDSQAwRgIhAOGRmSQmKtppkIEP+nLJcOuAMXzsh7Kh4nd+gaV/mB+SAiEAo8qJdmGRCp5z0J4K70GUFL3H"
    "DkQ0kqdmBcijJ++WRaA="
)
CERTIFICATE = (
    "MIIBvzCCAWWgAwIBAgIUdG38Bq7vUrkfp+6xe1N+CGOliFswCgYIKoZIzj0EAwIwFDESMBAGA1UEAwwJQSBjb21wYW55MCAXDTI2MTEy"
    "NzA1MDgyOFoYDzIxMjYxMTAzMDUwODI4WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQdK/yM"
    "b3/TrLDXdm0NUaZGK5uXaDPLlsm9pTjJV1O7cAcGcJta+ARZ4YqBxKqrvyqIj9LUWnA457fzK02+cfAmo4GSMIGPMAwGA1UdEwEB/wQC"
    "MAAwDgYDVR0PAQH/BAQDAgeAMBMGA1UdJQQMMAoGCCsGAQUFBwMBMBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAAATAdBgNVHQ4EFgQU"
    "4rlgbpH7DRUq7tdY2QiuPxE+fiYwHwYDVR0jBBgwFoAUC8MwyhICnwqLEBteaXI6i2Tpg4EwCgYIKoZIzj0EAwIDSAAwRQIgOb2/VAWl"
    "bWjp84LIK6qIB2qA8S/ol8nDjK38ddk2N00CIQCYFJiwGGd+MAnJtEmRJQhMGIUOsKYg9VXP2l/XVi5stw=="
)
KEY = (
    "MHcCAQEEIFHFlusT8sjoUsXdCXPyGFEGcK5ZN3H2roZ5wOvsNC5zoAoGCCqGSM49AwEHoUQDQgAEHSv8jG9/06yw13ZtDVGmRiubl2gz"
    "y5bJvaU4yVdTu3AHBnCbWvgEWeGKgcSqq78qiI/S1FpwOOe38ytNvnHwJg=="
)


def private_tls(folder: Path) -> ssl.SSLContext:
    """Make the TLS of a server; who trusts `folder`/ca.pem trusts it, and nobody else does."""
    for file, parts in (
        ("ca.pem", {"CERTIFICATE": AUTHORITY}),
        ("server.pem", {"CERTIFICATE": CERTIFICATE, "EC PRIVATE KEY": KEY}),
    ):
        blocks = (f"-----BEGIN {name}-----\n{text}\n-----END {name}-----\n" for name, text in parts.items())
        (folder / file).write_text("".join(blocks))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context
