BEGIN TRANSACTION;
CREATE TABLE search_candidates (
	id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	reason TEXT, 
	architecture JSON NOT NULL, 
	fingerprint VARCHAR(128) NOT NULL, 
	parameters BIGINT NOT NULL, 
	macs BIGINT NOT NULL, 
	depth INTEGER NOT NULL, 
	accuracy DOUBLE, 
	best_accuracy DOUBLE, 
	loss DOUBLE, 
	epochs INTEGER, 
	seconds DOUBLE, 
	images_per_second DOUBLE, 
	device TEXT, 
	worker TEXT, 
	seed BIGINT NOT NULL, 
	attempt INTEGER NOT NULL, 
	repeat_of INTEGER, 
	versions JSON, 
	proposed_at DATETIME NOT NULL, 
	finished_at DATETIME, 
	token INTEGER NOT NULL, batch_size INTEGER, 
	PRIMARY KEY (id), 
	CONSTRAINT search_candidates_number UNIQUE (study_id, number), 
	FOREIGN KEY(study_id) REFERENCES search_studies (id) ON DELETE CASCADE
);
INSERT INTO "search_candidates" VALUES(1,1,0,'completed',NULL,'{"format": "parsimony.architecture/1", "channels": 3, "image_size": 32, "classes": 10, "activation": "relu", "stem": {"width": 64, "kernel": 7, "stride": 2, "bias": false, "squeeze_excitation": null, "max_pool": {"kernel": 3, "stride": 2, "padding": 1}}, "stages": [{"blocks": 3, "width": 64, "kernel": 3, "stride": 1, "shortcut_kernel": 1, "growth": "step"}, {"blocks": 5, "width": 128, "kernel": 3, "stride": 2, "shortcut_kernel": 1, "growth": "step"}, {"blocks": 3, "width": 256, "kernel": 3, "stride": 2, "shortcut_kernel": 1, "growth": "step"}], "block": {"kind": "basic", "convolutions": 2, "expansion": null, "groups": 1, "preactivation": false, "residual": true, "shortcut": "projection", "bias": false, "dropout": 0.0, "squeeze_excitation": null}, "tail": [], "pool": {"kind": "avg", "output": 1, "kernel": null, "stride": null}, "head": {"hidden": [], "dropout": 0.0, "bias": true, "softmax": false}}','a',1000,2000,3,0.75,0.8,0.5,2,3.5,100.0,'cpu','w',7,1,NULL,NULL,'2026-11-20 12:00:00','2026-11-20 12:00:00',1,128);
INSERT INTO "search_candidates" VALUES(2,1,1,'pruned',NULL,'{"format": "parsimony.architecture/1", "channels": 3, "image_size": 32, "classes": 10, "activation": "relu", "stem": {"width": 64, "kernel": 7, "stride": 2, "bias": false, "squeeze_excitation": null, "max_pool": {"kernel": 3, "stride": 2, "padding": 1}}, "stages": [{"blocks": 3, "width": 64, "kernel": 3, "stride": 1, "shortcut_kernel": 1, "growth": "step"}, {"blocks": 5, "width": 128, "kernel": 3, "stride": 2, "shortcut_kernel": 1, "growth": "step"}, {"blocks": 3, "width": 256, "kernel": 3, "stride": 2, "shortcut_kernel": 1, "growth": "step"}], "block": {"kind": "basic", "convolutions": 2, "expansion": null, "groups": 1, "preactivation": false, "residual": true, "shortcut": "projection", "bias": false, "dropout": 0.0, "squeeze_excitation": null}, "tail": [], "pool": {"kind": "avg", "output": 1, "kernel": null, "stride": null}, "head": {"hidden": [], "dropout": 0.0, "bias": true, "softmax": false}}','b',1000,2000,3,0.25,0.25,0.5,2,3.5,100.0,'cpu','w',7,1,NULL,NULL,'2026-11-20 12:00:00','2026-11-20 12:00:00',2,128);
INSERT INTO "search_candidates" VALUES(3,1,2,'lost','worker w died','{"format": "parsimony.architecture/1", "channels": 3, "image_size": 32, "classes": 10, "activation": "relu", "stem": {"width": 64, "kernel": 7, "stride": 2, "bias": false, "squeeze_excitation": null, "max_pool": {"kernel": 3, "stride": 2, "padding": 1}}, "stages": [{"blocks": 3, "width": 64, "kernel": 3, "stride": 1, "shortcut_kernel": 1, "growth": "step"}, {"blocks": 5, "width": 128, "kernel": 3, "stride": 2, "shortcut_kernel": 1, "growth": "step"}, {"blocks": 3, "width": 256, "kernel": 3, "stride": 2, "shortcut_kernel": 1, "growth": "step"}], "block": {"kind": "basic", "convolutions": 2, "expansion": null, "groups": 1, "preactivation": false, "residual": true, "shortcut": "projection", "bias": false, "dropout": 0.0, "squeeze_excitation": null}, "tail": [], "pool": {"kind": "avg", "output": 1, "kernel": null, "stride": null}, "head": {"hidden": [], "dropout": 0.0, "bias": true, "softmax": false}}','c',1000,2000,3,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,7,1,NULL,NULL,'2026-11-20 12:00:00','2026-11-20 12:00:00',3,NULL);
CREATE TABLE search_claims (
	token INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	study_id INTEGER NOT NULL, 
	ordinal INTEGER NOT NULL, 
	worker TEXT NOT NULL, 
	candidate_id INTEGER, 
	lease_seconds DOUBLE NOT NULL, 
	claimed_at DOUBLE NOT NULL, 
	renewed_at DOUBLE NOT NULL, 
	expires_at DOUBLE NOT NULL, 
	CONSTRAINT search_claims_ordinal UNIQUE (study_id, ordinal), 
	FOREIGN KEY(study_id) REFERENCES search_studies (id) ON DELETE CASCADE, 
	FOREIGN KEY(candidate_id) REFERENCES search_candidates (id) ON DELETE SET NULL
);
CREATE TABLE search_epochs (
	candidate_id INTEGER NOT NULL, 
	epoch INTEGER NOT NULL, 
	train_loss DOUBLE, 
	validation_loss DOUBLE, 
	validation_accuracy DOUBLE, 
	learning_rate DOUBLE NOT NULL, 
	seconds DOUBLE NOT NULL, 
	PRIMARY KEY (candidate_id, epoch), 
	FOREIGN KEY(candidate_id) REFERENCES search_candidates (id) ON DELETE CASCADE
);
INSERT INTO "search_epochs" VALUES(1,1,1.0,0.5,0.375,0.1,1.5);
INSERT INTO "search_epochs" VALUES(1,2,1.0,0.5,0.75,0.1,1.5);
CREATE TABLE search_late (
	candidate_id INTEGER NOT NULL, 
	token INTEGER NOT NULL, 
	worker TEXT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	accuracy DOUBLE, 
	best_accuracy DOUBLE, 
	loss DOUBLE, 
	epochs INTEGER, 
	seconds DOUBLE, 
	images_per_second DOUBLE, 
	arrived_at DATETIME NOT NULL, batch_size INTEGER, 
	PRIMARY KEY (candidate_id, token), 
	FOREIGN KEY(candidate_id) REFERENCES search_candidates (id) ON DELETE CASCADE
);
CREATE TABLE search_studies (
	id INTEGER NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	created_at DATETIME NOT NULL, 
	trials INTEGER NOT NULL, 
	max_parameters BIGINT NOT NULL, 
	max_macs BIGINT, 
	seed BIGINT NOT NULL, 
	settings JSON NOT NULL, 
	versions JSON NOT NULL, 
	standing_order VARCHAR(16) NOT NULL, 
	claims_made INTEGER NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
INSERT INTO "search_studies" VALUES(1,'old','2026-11-20 12:00:00',3,5000000,NULL,0,'{"space": {"depth": {"2": 1, "3": 8, "4": 2}, "budget_share": {"low": 0.5, "high": 1.0, "step": null, "log": false}, "width": {"low": 8, "high": 512, "round_to": {"8": 4, "4": 3, "1": 1}}, "stem": {"width_ratio": {"0.5": 1, "1.0": 8}, "kernel": {"3": 12, "5": 1, "7": 1}, "stride": {"1": 19, "2": 1}, "max_pool": {"false": 19, "true": 1}}, "stage": {"blocks": {"low": 1, "high": 9, "step": 1, "log": true}, "kernel": {"1": 1, "3": 16, "5": 2, "7": 1}, "shortcut_kernel": {"1": 9, "3": 1}, "width_ratio": {"1.0": 1, "1.5": 2, "2.0": 9, "2.5": 1, "3.0": 1}, "stride": [2], "growth": {"step": 19, "linear": 1}}, "stages": {"1": {"blocks": null, "kernel": null, "shortcut_kernel": null, "width_ratio": null, "stride": [1], "growth": null}, "2": {"blocks": null, "kernel": null, "shortcut_kernel": null, "width_ratio": null, "stride": {"1": 1, "2": 14}, "growth": null}}, "same": {"blocks": {"true": 2, "false": 1}, "kernel": {"true": 9, "false": 1}, "shortcut_kernel": {"true": 9, "false": 1}, "width_ratio": {"true": 3, "false": 1}, "growth": {"true": 19, "false": 1}}, "pool": {"kind": {"avg": 9, "max": 1}, "size": {"1": 9, "2": 1}, "window": [0]}, "head": {"dropout": {"0.0": 10, "0.1": 1, "0.2": 1, "0.3": 1, "0.4": 1, "0.5": 1}, "form": {"linear": 19, "hidden": 1}, "hidden": [1024]}, "block": {"convolutions": {"2": 9, "3": 1}, "dropout": {"0.0": 9, "0.1": 1}, "activation": {"relu": 8, "leaky_relu": 1, "gelu": 1, "silu": 2}, "squeeze_excitation": {"none": 8, "block": 3, "stem": 1}, "preactivation": {"false": 3, "true": 1}, "kind": {"basic": 17, "bottleneck": 2, "inverted": 1}, "expansion": {"2": 3, "4": 3, "6": 1}, "groups": {"1": 5, "2": 1, "4": 1, "8": 1}, "shortcut": {"projection": 17, "padding": 2, "identity": 1}}, "large_images": {"above": 64, "stem": {"width_ratio": null, "kernel": {"3": 3, "5": 1, "7": 4}, "stride": {"1": 1, "2": 8}, "max_pool": {"false": 1, "true": 3}}}, "baselines": {"blocks": [[3, 3, 3], [2, 2, 2], [1, 1, 1]], "budget": [1.0, 0.5]}}, "budget": {"max_parameters": 5000000, "max_macs": null}, "task": {"channels": 3, "image_size": 32, "classes": 10}, "recipe": {"epochs": 3, "batch_size": 128, "optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": true, "weight_decay": 0.0005, "decay_vectors": false, "betas": null, "epsilon": null, "schedule": "one_cycle", "warm_up": 0.25, "label_smoothing": 0.1, "class_weights": "none", "jensen_shannon": 0.0, "clip_value": null, "clip_norm": null, "ema": 0.0, "dropout": null, "drop_path": 0.0, "initial": "residual", "crop_padding": 4, "crop_edge": "reflect", "enlarge": null, "flip": true, "flip_vertical": false, "rotation": 0.0, "cutout": 0, "random_erasing": 0.0, "policy": null, "mixup": 0.0, "cutmix": 0.0, "normalisation": "measured", "precision": "auto", "evaluate_in_training_mode": false, "accept": []}, "data": {"spec": "digits", "name": "digits", "image_size": 32, "limit": null, "validation_share": 0.1, "split_seed": 0, "train_images": 900, "validation_images": 100, "digest": "0000000000000000000000000000000000000000000000000000000000000000", "split_digest": "1111111111111111111111111111111111111111111111111111111111111111", "fit": "crop", "skip_damaged": false, "own_validation": false}, "sampler": "random", "sampling": "fit", "pruner": "none", "seed": 0}','{"python": "3.11"}','run',3);
CREATE TABLE search_trainings (
	id INTEGER NOT NULL, 
	run VARCHAR(64) NOT NULL, 
	seed BIGINT NOT NULL, 
	subject TEXT NOT NULL, 
	study VARCHAR(255), 
	trial INTEGER, 
	fingerprint VARCHAR(128) NOT NULL, 
	parameters BIGINT NOT NULL, 
	macs BIGINT NOT NULL, 
	architecture JSON NOT NULL, 
	recipe JSON NOT NULL, 
	data JSON NOT NULL, 
	epochs INTEGER NOT NULL, 
	accuracy DOUBLE NOT NULL, 
	best_accuracy DOUBLE NOT NULL, 
	best_epoch INTEGER NOT NULL, 
	loss DOUBLE NOT NULL, 
	test_accuracy DOUBLE, 
	test_loss DOUBLE, 
	test_images INTEGER, 
	seconds DOUBLE NOT NULL, 
	device TEXT NOT NULL, 
	versions JSON NOT NULL, 
	folder TEXT NOT NULL, 
	finished_at DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT search_trainings_run UNIQUE (run, seed)
);
INSERT INTO "search_trainings" VALUES(1,'r',0,'old:0','old',0,'a',1000,2000,'{"format": "parsimony.architecture/1", "channels": 3, "image_size": 32, "classes": 10, "activation": "relu", "stem": {"width": 64, "kernel": 7, "stride": 2, "bias": false, "squeeze_excitation": null, "max_pool": {"kernel": 3, "stride": 2, "padding": 1}}, "stages": [{"blocks": 3, "width": 64, "kernel": 3, "stride": 1, "shortcut_kernel": 1, "growth": "step"}, {"blocks": 5, "width": 128, "kernel": 3, "stride": 2, "shortcut_kernel": 1, "growth": "step"}, {"blocks": 3, "width": 256, "kernel": 3, "stride": 2, "shortcut_kernel": 1, "growth": "step"}], "block": {"kind": "basic", "convolutions": 2, "expansion": null, "groups": 1, "preactivation": false, "residual": true, "shortcut": "projection", "bias": false, "dropout": 0.0, "squeeze_excitation": null}, "tail": [], "pool": {"kind": "avg", "output": 1, "kernel": null, "stride": null}, "head": {"hidden": [], "dropout": 0.0, "bias": true, "softmax": false}}','{}','{}',20,0.9,0.9,20,0.1,0.875,0.2,359,60.0,'cpu','{}','training','2026-11-20 12:00:00');
CREATE TABLE search_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT search_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "search_version" VALUES('0003');
CREATE INDEX search_candidates_state ON search_candidates (study_id, state);
CREATE UNIQUE INDEX search_candidates_fingerprint ON search_candidates (study_id, fingerprint) WHERE state IN ('running', 'completed', 'pruned', 'diverged', 'out_of_memory', 'timed_out', 'failed');
CREATE INDEX search_trainings_study ON search_trainings (study, trial);
DELETE FROM "sqlite_sequence";
COMMIT;
