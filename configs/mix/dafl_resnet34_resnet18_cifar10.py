# DAFL (data-free), as mmrazor ships it.
_base_ = 'mmrazor::distill/mmcls/dafl/dafl_logits_resnet34_resnet18_8xb256_cifar10.py'

custom_imports = dict(imports=['mmkdlayer'], allow_failed_imports=False)

# The teacher is downloaded once. mmrazor's data-free algorithms need a launcher, for one process too.
model = dict(teachers=dict(res34=dict(build_cfg=dict(pretrained=False))))
