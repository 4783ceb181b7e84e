"""Public names of the room and their modules; read when the room is imported, and by type checkers."""

from .diagrams import diagram as diagram
from .maps import draw_change as draw_change
from .maps import draw_map as draw_map
from .maps import draw_pixel as draw_pixel
from .maps import draw_zone as draw_zone
from .maps import map_grid as map_grid
from .maps import number_table as number_table
from .pictures import draw_borders as draw_borders
from .pictures import picture_grid as picture_grid
from .plots import boxes as boxes
from .plots import detection_bars as detection_bars
from .plots import line_panels as line_panels
from .plots import method_intervals as method_intervals
from .plots import quality_by_domain as quality_by_domain
from .plots import reliability_diagram as reliability_diagram
from .plots import risk_coverage_curves as risk_coverage_curves
from .plots import scatter as scatter
from .questions import quiz as quiz
from .widgets import live_picture as live_picture
from .widgets import picture_slider as picture_slider

__all__ = [
    "boxes",
    "detection_bars",
    "diagram",
    "draw_borders",
    "draw_change",
    "draw_map",
    "draw_pixel",
    "draw_zone",
    "line_panels",
    "live_picture",
    "map_grid",
    "method_intervals",
    "number_table",
    "picture_grid",
    "picture_slider",
    "quality_by_domain",
    "quiz",
    "reliability_diagram",
    "risk_coverage_curves",
    "scatter",
]
