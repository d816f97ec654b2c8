# CIFAR-100 for 240 epochs: data, schedule, runtime and hooks of the pure-Python configs. The same as
# configs/_base_/datasets/cifar100.py, schedules/cifar_240e.py and runtime.py together.
from mmengine.dataset import DefaultSampler
from mmengine.hooks import (
    CheckpointHook,
    DistSamplerSeedHook,
    IterTimerHook,
    LoggerHook,
    ParamSchedulerHook,
)
from mmengine.optim import MultiStepLR
from mmengine.visualization import LocalVisBackend
from mmpretrain.datasets import CIFAR100, PackInputs, RandomCrop, RandomFlip
from mmpretrain.engine import VisualizationHook
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.visualization import UniversalVisualizer
from torch.optim import SGD

from mmkdlayer.engine import (
    CheckDataHook,
    CheckFiniteHook,
    CheckWeightsHook,
    FitDecisionsHook,
    KDMetricsHook,
    PreemptionHook,
    ReleaseRecordsHook,
    ResumableEpochLoop,
)

data_preprocessor = dict(
    type=ClsDataPreprocessor, num_classes=100,
    mean=[129.304, 124.07, 112.434], std=[68.17, 65.392, 70.418], to_rgb=False)
train_dataloader = dict(
    batch_size=64, num_workers=2, persistent_workers=True,
    dataset=dict(
        type=CIFAR100, data_root='data/cifar100', split='train',
        pipeline=[
            dict(type=RandomCrop, crop_size=32, padding=4),
            dict(type=RandomFlip, prob=0.5, direction='horizontal'),
            dict(type=PackInputs)]),
    sampler=dict(type=DefaultSampler, shuffle=True))
val_dataloader = dict(
    batch_size=64, num_workers=2, persistent_workers=True,
    dataset=dict(
        type=CIFAR100, data_root='data/cifar100/', split='test', pipeline=[dict(type=PackInputs)]),
    sampler=dict(type=DefaultSampler, shuffle=False))
val_evaluator = dict(type=Accuracy, topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator

optim_wrapper = dict(
    optimizer=dict(type=SGD, lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4))
param_scheduler = dict(type=MultiStepLR, by_epoch=True, milestones=[150, 180, 210], gamma=0.1)
train_cfg = dict(type=ResumableEpochLoop, max_epochs=240, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=64)

default_scope = 'mmpretrain'
custom_imports = dict(imports=['mmkdlayer'], allow_failed_imports=False)
default_hooks = dict(
    timer=dict(type=IterTimerHook),
    logger=dict(type=LoggerHook, interval=100),
    param_scheduler=dict(type=ParamSchedulerHook),
    checkpoint=dict(type=CheckpointHook, interval=1, max_keep_ckpts=3, save_best='auto'),
    sampler_seed=dict(type=DistSamplerSeedHook),
    visualization=dict(type=VisualizationHook, enable=False))
custom_hooks = [
    dict(type=CheckWeightsHook),
    dict(type=FitDecisionsHook),
    dict(type=ReleaseRecordsHook),
    dict(type=KDMetricsHook, interval=100),
    dict(type=CheckDataHook),
    dict(type=CheckFiniteHook),
    dict(type=PreemptionHook),
]
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))
visualizer = dict(type=UniversalVisualizer, vis_backends=[dict(type=LocalVisBackend)])
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0, deterministic=False)
