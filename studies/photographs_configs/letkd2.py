# letKD-2: ResNet-56 teaches ResNet-20.
_base_ = './_taught_.py'

model = dict(
    distiller=dict(type='mmkdlayer.KDLayerDistiller', kd_layers=dict(
        inter=dict(
            module='backbone.layer3.0', in_channels=64, teacher='backbone.layer3.0',
            decision=dict(type='mmkdlayer.SubclassDecision', num_classes=100)),
        penult=dict(
            module='backbone.layer3', in_channels=64, teacher='backbone.layer3',
            decision=dict(type='mmkdlayer.CentroidDecision', num_centroids=4096)))))
