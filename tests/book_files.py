"""Small books in the forms that readers have them in, for the tests of text/."""

import io
import tarfile
import zipfile


def zip_archive(files: dict) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return buffer.getvalue()


def tar_archive(files: dict, mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as target:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            target.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


CONTAINER = (
    '<?xml version="1.0"?><container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
PACKAGE = (
    '<package xmlns="http://www.idpf.org/2007/opf"><manifest>'
    '<item id="nav" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/>{items}</manifest>'
    '<spine><itemref idref="nav"/>{references}</spine></package>'
)
NAVIGATION = (
    '<html xmlns:epub="http://www.idpf.org/2007/ops"><body><nav epub:type="toc"><ol>{}</ol></nav></body></html>'
)
ENCRYPTION = (
    '<encryption xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData>'
    '<enc:EncryptionMethod Algorithm="{}"/></enc:EncryptedData></encryption>'
)


def page(body: str) -> str:
    return f"<html xmlns='http://www.w3.org/1999/xhtml'><head><title>t</title></head><body>{body}</body></html>"


def paragraphs(text: str) -> str:
    return "".join(f"<p>\n  {line}\n</p>" for line in text.strip().split("\n"))


def epub(
    pages: list[str | bytes], extra: dict | None = None, media_type: str = "application/xhtml+xml", contents: str = ""
) -> bytes:
    """A small EPUB: pages text/0.xhtml ... of HTML, a navigation page, and a manifest not in reading order.

    extra: files besides, or in place of others; None takes one out. contents: the entries of the navigation page.
    """
    numbers = range(len(pages))
    items = [f'<item id="c{i}" href="text/{i}.xhtml" media-type="{media_type}"/>' for i in reversed(numbers)]
    references = [f'<itemref idref="c{i}"/>' for i in numbers]
    files = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "OEBPS/content.opf": PACKAGE.format(items="".join(items), references="".join(references)),
        "OEBPS/nav.xhtml": NAVIGATION.format(contents),
        **{f"OEBPS/text/{i}.xhtml": content for i, content in enumerate(pages)},
        **(extra or {}),
    }
    return zip_archive({name: content for name, content in files.items() if content is not None})


def docx(body: str, styles: str = "", extra: dict | None = None) -> bytes:
    w = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    files = {
        "[Content_Types].xml": "<Types/>",
        "word/document.xml": f'<?xml version="1.0"?><w:document {w}><w:body>{body}</w:body></w:document>',
        "word/styles.xml": f"<w:styles {w}>{styles}</w:styles>",
    }
    return zip_archive({**files, **(extra or {})})


def odt(body: str) -> bytes:
    content = f"<o:body>{body}</o:body>"
    return zip_archive(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "content.xml": f'<o:document-content xmlns:o="urn:o" xmlns:text="urn:t">{content}</o:document-content>',
        }
    )
