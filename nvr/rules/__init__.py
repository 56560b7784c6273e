"""From facts to states and events: one file for each rule. `templates.Rules(camera, site)` holds those of one camera.

Rules get `scene.Facts` and give `scene.Event`; they touch nothing else. What each state means, and what it does not
claim, is in docs/detection.md.
"""
