"""The image accelerator: a streaming pull-through mirror that is also a full OCI registry.

Rooms, from the door inwards: ``process`` starts and wires, ``serve`` answers clients, ``operate`` answers the operator,
``resolve`` decides freshness and visibility, ``fetch`` downloads, ``sources`` are who to ask, ``store`` is what is
kept, ``access`` is who may what.
"""
