"""QR codes as SVG, black on white with the quiet zone that readers need."""

QUIET = 4
"""Modules of white around the code."""


def svg(text: str, size: int = 200) -> str:
    """A QR code of a text (level M)."""
    from reportlab.graphics.barcode.qr import QrCodeWidget  # loads a library of drawings, which few requests need

    code = QrCodeWidget(text, barLevel="M").qr
    code.make()
    rows = [[bool(module) for module in row] for row in code.modules]
    side = len(rows) + 2 * QUIET
    dark = "".join(
        f"M{x + QUIET} {y + QUIET}h1v1h-1z" for y, row in enumerate(rows) for x, module in enumerate(row) if module
    )
    return (
        f'<svg viewBox="0 0 {side} {side}" width="{size}" height="{size}" role="img" shape-rendering="crispEdges" '
        f'data-testid="qr"><rect width="{side}" height="{side}" fill="#fff"/><path d="{dark}" fill="#000"/></svg>'
    )
