# letKD-2 for a ResNet-18 on CIFAR-10, as an addition to any recipe with one teacher.
_base_ = './letkd2_in1k.py'

letkd = dict(kd_layers=dict(inter=dict(decision=dict(num_classes=10, num_components=8))))
